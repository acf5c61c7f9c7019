//! Benchmark of `sqrt` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{reference, sqrt_into};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::sqrt(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "sqrt", (rows, cols), exact)
            .slices(&mut y, |y| sqrt_into(&x, y).map(drop))
            .candle(|| xs.sqrt());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
