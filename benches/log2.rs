//! Benchmark of `log2` against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{log2_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols).into_iter().map(|x| E::from_wide(x.widen().exp())).collect();
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::log2(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "log2", (rows, cols), exact)
            .slices(&mut y, |y| log2_into(&x, y).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::log2(&xs)?), || xs.log()?.affine(std::f64::consts::LOG2_E, 0.0));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
