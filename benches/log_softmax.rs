//! `log_softmax` over the last axis beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::{Rows, RowsMut, Softmax, log_softmax_into, reference};
use support::{Race, SHAPES, Timed, check, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in SHAPES {
        let x = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        log_softmax_into(input, RowsMut::new(&mut y, rows, cols).unwrap(), &options).unwrap();
        check("log_softmax", &y[..cols], reference::log_softmax(&x[..cols]).unwrap());
        let xs = tensor(&x, (rows, cols));
        Race::new::<E>(c, "log_softmax", (rows, cols))
            .slices(|| log_softmax_into(input, RowsMut::new(&mut y, rows, cols)?, &options).map(drop))
            .tensors(|| evenkeel::candle::ops::log_softmax(&xs, 1), || candle_nn::ops::log_softmax(&xs, 1));
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
