//! Helpers for gradients without a kernel. Such a gradient is computed with candle's ops in f64 and rounded once at the
//! end.

#![forbid(unsafe_code)]

use crate::candle::composition::limited;
use crate::candle::support::limits;
use candle_core::{DType, Result, Tensor};

pub fn wide(xs: &Tensor) -> Result<Tensor> {
    xs.to_dtype(DType::F64)
}

/// Rounds the gradient `dx` to the type of its argument. Overflow gives the type's largest finite value, unless `dy`,
/// the gradient of the result, is infinite.
pub fn rounded(op: &'static str, dx: &Tensor, dy: &Tensor, arg: &Tensor) -> Result<Tensor> {
    let is_infinite = dy.abs()?.eq(f64::INFINITY)?;
    is_infinite.where_cond(dx, &limited(dx, limits(arg, op)?.max)?)?.to_dtype(arg.dtype())
}
