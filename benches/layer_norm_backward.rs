//! Benchmark of `layer_norm_backward`, including the gradients of weight and bias, against a composition of candle's
//! ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use candle_core::{D, DType, Result, Tensor};
use criterion::Criterion;
use evenkeel::{LayerNorm, Rows, RowsMut, layer_norm_backward_into, reference};

const EPS: f64 = 1e-5;

/// Computes dx, dweight and dbias, and returns only dx.
fn composed(xs: &Tensor, dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let dtype = if xs.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let [x, dy, weight] = [xs.to_dtype(dtype)?, dy.to_dtype(dtype)?, weight.to_dtype(dtype)?];
    let d = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let r = (d.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?.recip()?;
    let n = d.broadcast_mul(&r)?;
    std::hint::black_box(((&dy * &n)?.sum(0)?, dy.sum(0)?));
    let h = dy.broadcast_mul(&weight)?;
    let along = (&h * &n)?.mean_keepdim(D::Minus1)?;
    let h = h.broadcast_sub(&h.mean_keepdim(D::Minus1)?)?;
    (h - n.broadcast_mul(&along)?)?.broadcast_mul(&r)?.to_dtype(xs.dtype())
}

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let dy: Vec<E> = x.iter().rev().copied().collect();
        let weight = numbers::<E>(cols);
        let options = LayerNorm::default().weight(&weight).eps(EPS);
        let (mut dx, mut dweight, mut dbias) = (x.clone(), weight.clone(), weight.clone());
        let view = |data| Rows::new(data, rows, cols).unwrap();
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let exact = reference::layer_norm_backward(&x[..cols], &dy[..cols], Some(&wide), EPS);
        let [xs, dys] = [&x, &dy].map(|data| tensor(data, (rows, cols)));
        let alpha = tensor(&weight, cols);
        Race::<E>::new(c, "layer_norm_backward", (rows, cols), exact)
            .slices(&mut dx, |dx| {
                let (dweight, dbias) = (Some((&mut dweight).into()), Some((&mut dbias).into()));
                let dx = RowsMut::new(dx, rows, cols)?;
                layer_norm_backward_into(view(&x), view(&dy), dx, dweight, dbias, &options).map(drop)
            })
            .candle(|| composed(&xs, &dys, &alpha));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
