//! Benchmark of `rms_norm_backward`, including the weight's gradient, against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use candle_core::{D, DType, Result, Tensor};
use criterion::Criterion;
use evenkeel::{RmsNorm, Rows, RowsMut, reference, rms_norm_backward_into};

const EPS: f64 = 1e-5;

/// Computes dx and dweight, and returns only dx.
fn composed(xs: &Tensor, dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let dtype = if xs.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let [x, dy, weight] = [xs.to_dtype(dtype)?, dy.to_dtype(dtype)?, weight.to_dtype(dtype)?];
    let r = (x.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?.recip()?;
    let n = x.broadcast_mul(&r)?;
    let dweight = (&dy * &n)?.sum(0)?;
    let h = dy.broadcast_mul(&weight)?;
    let along = (&h * &n)?.mean_keepdim(D::Minus1)?;
    std::hint::black_box(dweight);
    (h - n.broadcast_mul(&along)?)?.broadcast_mul(&r)?.to_dtype(xs.dtype())
}

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let dy: Vec<E> = x.iter().rev().copied().collect();
        let weight = numbers::<E>(cols);
        let options = RmsNorm::default().weight(&weight).eps(EPS);
        let (mut dx, mut dweight) = (x.clone(), weight.clone());
        let view = |data| Rows::new(data, rows, cols).unwrap();
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let exact = reference::rms_norm_backward(&x[..cols], &dy[..cols], Some(&wide), 0.0, EPS);
        let [xs, dys] = [&x, &dy].map(|data| tensor(data, (rows, cols)));
        let alpha = tensor(&weight, cols);
        Race::<E>::new(c, "rms_norm_backward", (rows, cols), exact)
            .slices(&mut dx, |dx| {
                let (dx, dweight) = (RowsMut::new(dx, rows, cols)?, Some((&mut dweight).into()));
                rms_norm_backward_into(view(&x), view(&dy), dx, dweight, &options).map(drop)
            })
            .candle(|| composed(&xs, &dys, &alpha));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
