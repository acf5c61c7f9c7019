//! Benchmark of `silu` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{reference, silu_into};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::silu(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "silu", (rows, cols), exact)
            .slices(&mut y, |y| silu_into(&x, y).map(drop))
            .tensors(|| evenkeel::candle::ops::silu(&xs), || candle_nn::ops::silu(&xs));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
