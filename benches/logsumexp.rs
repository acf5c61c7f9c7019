//! Benchmark of `logsumexp` against candle's `log_sum_exp`, over the last axis.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::candle::guarded;
use evenkeel::{Rows, Softmax, logsumexp_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let mut y = x[..rows].to_vec();
        let input = Rows::new(&x, rows, cols).unwrap();
        let exact = x.chunks(cols).take(8).map(reference::logsumexp).collect();
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "logsumexp", (rows, cols), exact)
            .slices(&mut y, |y| logsumexp_into(input, y, &options).map(drop))
            .tensors(|| Ok(guarded::logsumexp(&xs, 1, false, &options)?), || xs.log_sum_exp(1));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
