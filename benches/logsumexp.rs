//! `logsumexp` over the last axis beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::candle::guarded;
use evenkeel::{Rows, Softmax, logsumexp_into, reference};
use support::{Race, SHAPES, Timed, check, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = Softmax::default();
    for (rows, cols) in SHAPES {
        let x = numbers::<E>(rows * cols);
        let mut y = x[..rows].to_vec();
        let input = Rows::new(&x, rows, cols).unwrap();
        logsumexp_into(input, y.as_mut_slice(), &options).unwrap();
        check("logsumexp", &y, x.chunks(cols).map(|row| reference::logsumexp(row)));
        let xs = tensor(&x, (rows, cols));
        Race::new::<E>(c, "logsumexp", (rows, cols))
            .slices(|| logsumexp_into(input, y.as_mut_slice(), &options).map(drop))
            .tensors(|| Ok(guarded::logsumexp(&xs, 1, false, &options)?), || xs.log_sum_exp(1));
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
