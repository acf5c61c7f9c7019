//! Benchmark of `logsumexp_backward` over the last axis. It also times a forward and a backward pass of candle's
//! autograd, once with Evenkeel's guarded op and once with candle's own op.

use crate::support::{Race, Timed, gradient, numbers, shapes, tensor};
use candle_core::Var;
use criterion::Criterion;
use evenkeel::candle::guarded;
use evenkeel::{Rows, RowsMut, Softmax, logsumexp_backward_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let dy = &x[..rows];
        let mut dx = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        let exact = reference::logsumexp_backward(&x[..cols], dy[0]).unwrap();
        let (xs, grads) = (Var::from_tensor(&tensor(&x, (rows, cols))).unwrap(), tensor(dy, rows));
        Race::<E>::new(c, "logsumexp_backward", (rows, cols), exact)
            .slices(&mut dx, |dx| logsumexp_backward_into(input, dy, RowsMut::new(dx, rows, cols)?, &options).map(drop))
            .tensors(
                || gradient(&xs, &grads, |xs| Ok(guarded::logsumexp(xs, 1, false, &options)?)),
                || gradient(&xs, &grads, |xs| xs.log_sum_exp(1)),
            );
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
