//! `clamped_log` beside candle's maximum and log.

mod support;

use criterion::Criterion;
use evenkeel::{ClampedLog, clamped_log_into, reference};
use support::{Race, SHAPES, Timed, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    let floor = E::LIMITS.min_normal;
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::clamped_log(x, floor)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "clamped_log", (rows, cols), exact)
            .slices(&mut y, |y| clamped_log_into(&x, y, &ClampedLog::default()).map(drop))
            .candle(|| xs.maximum(floor)?.log());
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
