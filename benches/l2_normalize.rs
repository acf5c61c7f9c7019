//! Benchmark of `l2_normalize` against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use candle_core::{D, Result, Tensor};
use criterion::Criterion;
use evenkeel::{L2Normalize, Rows, RowsMut, l2_normalize_into, reference};

fn composed(xs: &Tensor) -> Result<Tensor> {
    xs.broadcast_div(&xs.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-6)?)
}

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let mut y = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        let exact = reference::l2_normalize(&x[..cols], 1e-12);
        let xs = tensor(&x, (rows, cols));
        Race::<E>::new(c, "l2_normalize", (rows, cols), exact)
            .slices(&mut y, |y| {
                l2_normalize_into(input, RowsMut::new(y, rows, cols)?, &L2Normalize::default()).map(drop)
            })
            .candle(|| composed(&xs));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
