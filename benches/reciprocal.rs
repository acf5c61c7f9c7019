//! Benchmark of `reciprocal` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{reciprocal_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::reciprocal(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "reciprocal", (rows, cols), exact)
            .slices(&mut y, |y| reciprocal_into(&x, y).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::reciprocal(&xs)?), || xs.recip());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
