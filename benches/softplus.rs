//! Benchmark of `softplus`.

use crate::support::{Race, Timed, numbers, shapes};
use criterion::Criterion;
use evenkeel::{reference, softplus_into};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::softplus(x)).collect();
        Race::<E>::new(c, "softplus", (rows, cols), exact).slices(&mut y, |y| softplus_into(&x, y).map(drop));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
