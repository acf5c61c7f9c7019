//! Benchmark of `erf` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{erf_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::erf(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "erf", (rows, cols), exact).slices(&mut y, |y| erf_into(&x, y).map(drop)).candle(|| xs.erf());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
