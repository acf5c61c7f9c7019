//! Benchmark of `safe_div` against candle's division, which does not guard against small divisors.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{SafeDiv, reference, safe_div_into};

fn bench<E: Timed>(c: &mut Criterion) {
    let eps = E::LIMITS.div_eps;
    for (rows, cols) in shapes() {
        let mut x: Vec<E> = numbers::<E>(rows * cols + 7);
        let d = x.split_off(7);
        x.extend_from_slice(&d[..rows * cols - 7]);
        let mut y = x.clone();
        let exact = x[..cols].iter().zip(&d).map(|(&x, &d)| reference::safe_div(x, d, eps)).collect();
        let (xs, ds) = (tensor(&x, (rows, cols)), tensor(&d, (rows, cols)));
        Race::<E>::new(c, "safe_div", (rows, cols), exact)
            .slices(&mut y, |y| safe_div_into(&x, &d, y, &SafeDiv::default()).map(drop))
            .candle(|| &xs / &ds);
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
