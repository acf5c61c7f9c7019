//! `gelu_tanh` beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::{gelu_tanh_into, reference};
use support::{Race, SHAPES, Timed, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let exact = x[..cols].iter().map(|&x| reference::gelu_tanh(x)).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "gelu_tanh", (rows, cols), exact)
            .slices(&mut y, |y| gelu_tanh_into(&x, y).map(drop))
            .candle(|| xs.gelu());
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
