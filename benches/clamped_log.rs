//! Benchmark of `clamped_log` against candle's maximum and log.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{ClampedLog, clamped_log_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    let floor = E::LIMITS.min_normal;
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::clamped_log(x, floor)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "clamped_log", (rows, cols), exact)
            .slices(&mut y, |y| clamped_log_into(&x, y, &ClampedLog::default()).map(drop))
            .candle(|| xs.maximum(floor)?.log());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
