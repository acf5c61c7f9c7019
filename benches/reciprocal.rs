//! `reciprocal` beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::{reciprocal_into, reference};
use support::{Race, SHAPES, Timed, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::reciprocal(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "reciprocal", (rows, cols), exact)
            .slices(&mut y, |y| reciprocal_into(&x, y).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::reciprocal(&xs)?), || xs.recip());
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
