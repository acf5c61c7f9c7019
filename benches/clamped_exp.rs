//! Benchmark of `clamped_exp` against candle's clamp and exp.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{ClampedExp, clamped_exp_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    let (min, max) = (E::LIMITS.exp_min_normal, E::LIMITS.exp_max);
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::clamped_exp(x, min, max)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "clamped_exp", (rows, cols), exact)
            .slices(&mut y, |y| clamped_exp_into(&x, y, &ClampedExp::default()).map(drop))
            .candle(|| xs.clamp(min, max)?.exp());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
