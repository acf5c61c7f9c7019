//! `silu` beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::{reference, silu_into};
use support::{Race, SHAPES, Timed, check, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        silu_into(&x, y.as_mut_slice()).unwrap();
        check("silu", &y[..cols], x[..cols].iter().map(|&x| reference::silu(x)));
        let xs = tensor(&x, (rows, cols));
        Race::new::<E>(c, "silu", (rows, cols))
            .slices(|| silu_into(&x, y.as_mut_slice()).map(drop))
            .tensors(|| evenkeel::candle::ops::silu(&xs), || candle_nn::ops::silu(&xs));
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
