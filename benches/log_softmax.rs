//! Benchmark of `log_softmax` against candle's function of that name, over the last axis.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{Rows, RowsMut, Softmax, log_softmax_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        let exact = reference::log_softmax(&x[..cols]).unwrap();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "log_softmax", (rows, cols), exact)
            .slices(&mut y, |y| log_softmax_into(input, RowsMut::new(y, rows, cols)?, &options).map(drop))
            .tensors(|| evenkeel::candle::ops::log_softmax(&xs, 1), || candle_nn::ops::log_softmax(&xs, 1));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
