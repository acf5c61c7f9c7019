//! Benchmark of `log_sigmoid`.

use crate::support::{Race, Timed, numbers, shapes};
use criterion::Criterion;
use evenkeel::{log_sigmoid_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::log_sigmoid(x)).collect();
        Race::<E>::new(c, "log_sigmoid", (rows, cols), exact).slices(&mut y, |y| log_sigmoid_into(&x, y).map(drop));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
