//! `sigmoid` beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::{reference, sigmoid_into};
use support::{Race, SHAPES, Timed, check, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols);
        let mut y = x.clone();
        sigmoid_into(&x, y.as_mut_slice()).unwrap();
        check("sigmoid", &y[..cols], x[..cols].iter().map(|&x| reference::sigmoid(x)));
        let xs = tensor(&x, (rows, cols));
        Race::new::<E>(c, "sigmoid", (rows, cols))
            .slices(|| sigmoid_into(&x, y.as_mut_slice()).map(drop))
            .tensors(|| evenkeel::candle::ops::sigmoid(&xs), || candle_nn::ops::sigmoid(&xs));
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
