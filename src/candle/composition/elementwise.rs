//! Compositions of single elements.

#![forbid(unsafe_code)]

use super::wide;
use candle_core::{Result, Tensor};

/// e^x of each element, as [`crate::exp`].
pub fn exp(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.exp()?.to_dtype(xs.dtype())
}

/// ln x of each element, as [`crate::log`].
pub fn log(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.log()?.to_dtype(xs.dtype())
}

/// 1 / (1 + e^-x) of each element, as [`crate::sigmoid`].
pub fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    candle_nn::ops::sigmoid(&wide(xs)?)?.to_dtype(xs.dtype())
}

/// x / (1 + e^-x) of each element, as [`crate::silu`].
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    /// The result is -0 here in every type, and candle's is NaN at -inf.
    const LOWEST: f64 = -1000.0;
    let x = wide(xs)?;
    let lowest = x.ones_like()?.affine(LOWEST, 0.0)?;
    x.lt(LOWEST)?.where_cond(&lowest, &x)?.silu()?.to_dtype(xs.dtype())
}
