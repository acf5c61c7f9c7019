//! Benchmark of `sigmoid` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{reference, sigmoid_into};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::sigmoid(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "sigmoid", (rows, cols), exact)
            .slices(&mut y, |y| sigmoid_into(&x, y).map(drop))
            .tensors(|| evenkeel::candle::ops::sigmoid(&xs), || candle_nn::ops::sigmoid(&xs));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
