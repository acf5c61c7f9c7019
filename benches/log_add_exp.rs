//! Benchmark of `log_add_exp` against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{log_add_exp_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let mut a: Vec<E> = numbers::<E>(rows * cols + 7);
        let b = a.split_off(7);
        a.extend_from_slice(&b[..rows * cols - 7]);
        let mut y = a.clone();
        let exact = a[..cols].iter().zip(&b).map(|(&a, &b)| reference::log_add_exp(a, b)).collect();
        let (xs, ys) = (tensor(&a, (rows, cols)), tensor(&b, (rows, cols)));
        Race::<E>::new(c, "log_add_exp", (rows, cols), exact)
            .slices(&mut y, |y| log_add_exp_into(&a, &b, y).map(drop))
            .candle(|| xs.maximum(&ys)? + ((&xs - &ys)?.abs()?.neg()?.exp()? + 1.0)?.log()?);
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
