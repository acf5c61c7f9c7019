//! Benchmark of `softmax` against candle's `softmax_last_dim`.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{Rows, RowsMut, Softmax, reference, softmax_into};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        let exact = reference::softmax(&x[..cols]).unwrap();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "softmax", (rows, cols), exact)
            .slices(&mut y, |y| softmax_into(input, RowsMut::new(y, rows, cols)?, &options).map(drop))
            .tensors(|| evenkeel::candle::ops::softmax_last_dim(&xs), || candle_nn::ops::softmax_last_dim(&xs));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
