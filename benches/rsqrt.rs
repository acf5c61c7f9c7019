//! Benchmark of `rsqrt` against candle's.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{reference, rsqrt_into};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::rsqrt(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "rsqrt", (rows, cols), exact)
            .slices(&mut y, |y| rsqrt_into(&x, y).map(drop))
            .candle(|| xs.sqrt()?.recip());
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
