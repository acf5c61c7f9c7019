//! Benchmark of `gelu` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{gelu_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::gelu(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "gelu", (rows, cols), exact)
            .slices(&mut y, |y| gelu_into(&x, y).map(drop))
            .candle(|| xs.gelu_erf());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
