//! `exp` beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::{exp_into, reference};
use support::{Race, SHAPES, Timed, check, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        exp_into(&x, y.as_mut_slice()).unwrap();
        check("exp", &y[..cols], x[..cols].iter().map(|&x| reference::exp(x)));
        let xs = tensor(&x, (rows, cols));
        Race::new::<E>(c, "exp", (rows, cols))
            .slices(|| exp_into(&x, y.as_mut_slice()).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::exp(&xs)?), || xs.exp());
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
