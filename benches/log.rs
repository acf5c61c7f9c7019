//! Benchmark of `log` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{log_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols).into_iter().map(|x| E::from_wide(x.widen().exp())).collect();
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::log(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "log", (rows, cols), exact)
            .slices(&mut y, |y| log_into(&x, y).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::log(&xs)?), || xs.log());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
