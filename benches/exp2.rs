//! Benchmark of `exp2` against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{exp2_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::exp2(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "exp2", (rows, cols), exact)
            .slices(&mut y, |y| exp2_into(&x, y).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::exp2(&xs)?), || xs.affine(std::f64::consts::LN_2, 0.0)?.exp());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
