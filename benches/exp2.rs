//! `exp2` beside candle's ops put together.

mod support;

use criterion::Criterion;
use evenkeel::{exp2_into, reference};
use support::{Race, SHAPES, Timed, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::exp2(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "exp2", (rows, cols), exact)
            .slices(&mut y, |y| exp2_into(&x, y).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::exp2(&xs)?), || xs.affine(std::f64::consts::LN_2, 0.0)?.exp());
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
