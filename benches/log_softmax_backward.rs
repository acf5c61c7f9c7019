//! Benchmark of `log_softmax_backward` over the last axis. It also times a forward and a backward pass of candle's
//! autograd, once with Evenkeel's drop-in and once with candle's own op.

use crate::support::{Race, Timed, gradient, numbers, shapes, tensor};
use candle_core::Var;
use criterion::Criterion;
use evenkeel::candle::ops;
use evenkeel::{Rows, RowsMut, Softmax, log_softmax_backward_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let dy: Vec<E> = x.iter().rev().copied().collect();
        let mut dx = x.clone();
        let [input, given] = [&x, &dy].map(|data| Rows::new(data, rows, cols).unwrap());
        let exact = reference::log_softmax_backward(&x[..cols], &dy[..cols]).unwrap();
        let [xs, grads] = [&x, &dy].map(|data| tensor(data, (rows, cols)));
        let xs = Var::from_tensor(&xs).unwrap();
        Race::<E>::new(c, "log_softmax_backward", (rows, cols), exact)
            .slices(&mut dx, |dx| {
                log_softmax_backward_into(input, given, RowsMut::new(dx, rows, cols)?, &options).map(drop)
            })
            .tensors(
                || gradient(&xs, &grads, |xs| ops::log_softmax(xs, 1)),
                || gradient(&xs, &grads, |xs| candle_nn::ops::log_softmax(xs, 1)),
            );
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
