//! Benchmark of `expm1`.

use crate::support::{Race, Timed, numbers, shapes};
use criterion::Criterion;
use evenkeel::{expm1_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::expm1(x)).collect();
        Race::<E>::new(c, "expm1", (rows, cols), exact).slices(&mut y, |y| expm1_into(&x, y).map(drop));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
