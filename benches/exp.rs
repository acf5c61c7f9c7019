//! Benchmark of `exp` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{exp_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::exp(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "exp", (rows, cols), exact)
            .slices(&mut y, |y| exp_into(&x, y).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::exp(&xs)?), || xs.exp());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
