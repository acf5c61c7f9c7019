//! `logsumexp_backward` over the last axis beside candle's ops put together, which have to compute softmax.

mod support;

use criterion::Criterion;
use evenkeel::{Rows, RowsMut, Softmax, logsumexp_backward_into, reference};
use support::{Race, SHAPES, Timed, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in SHAPES {
        let x = numbers::<E>(rows * cols);
        let dy = &x[..rows];
        let mut dx = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        let exact = reference::logsumexp_backward(&x[..cols], dy[0]).unwrap();
        let (xs, grads) = (tensor(&x, (rows, cols)), tensor(dy, (rows, 1)));
        Race::<E>::new(c, "logsumexp_backward", (rows, cols), exact)
            .slices(&mut dx, |dx| logsumexp_backward_into(input, dy, RowsMut::new(dx, rows, cols)?, &options).map(drop))
            .candle(|| candle_nn::ops::softmax(&xs, 1)?.broadcast_mul(&grads));
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
