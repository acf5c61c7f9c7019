//! Guarded forms of the ops on single elements.

#![forbid(unsafe_code)]

use crate::candle::op::elementwise as op;
use crate::error::Result;
use candle_core::Tensor;

/// e^x of each element; see [`crate::exp`].
///
/// # Errors
/// See the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::guarded;
/// let y = guarded::exp(&Tensor::new(&[0f32, -100.], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec1::<f32>()?, [1.0, 3.783506e-44]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn exp(xs: &Tensor) -> Result<Tensor> {
    Ok(op::exp(xs)?)
}

/// ln x of each element; see [`crate::log`].
///
/// # Errors
/// See the [module](super).
pub fn log(xs: &Tensor) -> Result<Tensor> {
    Ok(op::log(xs)?)
}

/// 1 / (1 + e^-x) of each element; see [`crate::sigmoid`].
///
/// # Errors
/// See the [module](super).
pub fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    Ok(op::sigmoid(xs)?)
}

/// x / (1 + e^-x) of each element; see [`crate::silu`].
///
/// # Errors
/// See the [module](super).
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    Ok(op::silu(xs)?)
}
