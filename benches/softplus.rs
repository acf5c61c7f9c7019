//! `softplus`.

mod support;

use criterion::Criterion;
use evenkeel::{reference, softplus_into};
use support::{Race, SHAPES, Timed, numbers};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::softplus(x)).collect();
        Race::<E>::new(c, "softplus", (rows, cols), exact).slices(&mut y, |y| softplus_into(&x, y).map(drop));
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
