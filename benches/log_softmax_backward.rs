//! `log_softmax_backward` over the last axis beside candle's ops put together, which are given the result of log_softmax.

mod support;

use criterion::Criterion;
use evenkeel::{Rows, RowsMut, Softmax, log_softmax_backward_into, reference};
use support::{Race, SHAPES, Timed, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in SHAPES {
        let x = numbers::<E>(rows * cols);
        let dy: Vec<E> = x.iter().rev().copied().collect();
        let mut dx = x.clone();
        let [input, given] = [&x, &dy].map(|data| Rows::new(data, rows, cols).unwrap());
        let exact = reference::log_softmax_backward(&x[..cols], &dy[..cols]).unwrap();
        let [xs, grads] = [&x, &dy].map(|data| tensor(data, (rows, cols)));
        let y = candle_nn::ops::log_softmax(&xs, 1).unwrap();
        Race::<E>::new(c, "log_softmax_backward", (rows, cols), exact)
            .slices(&mut dx, |dx| {
                log_softmax_backward_into(input, given, RowsMut::new(dx, rows, cols)?, &options).map(drop)
            })
            .candle(|| &grads - y.exp()?.broadcast_mul(&grads.sum_keepdim(1)?)?);
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
