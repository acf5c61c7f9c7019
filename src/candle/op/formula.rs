//! Gradients by their formulas, for ops without kernels of them: candle's ops in f64, rounded once at the end.

#![forbid(unsafe_code)]

use crate::candle::composition::limited;
use crate::candle::place::limits;
use candle_core::{DType, Result, Tensor};

/// The tensor in f64.
pub fn wide(xs: &Tensor) -> Result<Tensor> {
    xs.to_dtype(DType::F64)
}

/// A gradient in the type of its argument, at most the largest value where that of the result is finite.
pub fn rounded(op: &'static str, dx: &Tensor, dy: &Tensor, arg: &Tensor) -> Result<Tensor> {
    let is_infinite = dy.abs()?.eq(f64::INFINITY)?;
    is_infinite.where_cond(dx, &limited(dx, limits(arg, op)?.max)?)?.to_dtype(arg.dtype())
}
