//! Guarded forms of the norms.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rms_norm::RmsNorm;
use candle_core::Tensor;

/// Root-mean-square normalisation along the last dimension; see [`crate::rms_norm`].
///
/// The weight has one dimension, any float type, and a gradient. The options' weight stands in for one that has none;
/// both are one too many.
///
/// # Errors
/// As [`crate::rms_norm`], and see the [module](super).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use evenkeel::{RmsNorm, candle::guarded};
/// let x = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?.to_dtype(DType::BF16)?;
/// let weight = Tensor::new(&[0f32, 1.], &Device::Cpu)?; // stored around zero, in a wider type
/// let y = guarded::rms_norm(&x, Some(&weight), &RmsNorm::default().weight_offset(1.0))?;
/// assert_eq!(y.to_dtype(DType::F32)?.to_vec2::<f32>()?, [[0.84765625, 2.265625]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &RmsNorm<'_>) -> Result<Tensor> {
    Ok(op::rms_norm::rms_norm(xs, weight, options)?)
}

/// [`rms_norm`] of `xs + residual`: the norm, and the sum for the next layer; see [`crate::rms_norm_residual`]. Both
/// come of one pass.
///
/// # Errors
/// As [`rms_norm`], and [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for a residual of another shape.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{RmsNorm, candle::guarded};
/// let (x, residual) = (Tensor::new(&[[1f32, 2.]], &Device::Cpu)?, Tensor::new(&[[2f32, 2.]], &Device::Cpu)?);
/// let (y, sum) = guarded::rms_norm_residual(&x, &residual, None, &RmsNorm::default())?;
/// assert_eq!(sum.to_vec2::<f32>()?, [[3.0, 4.0]]);
/// # let _ = y;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm_residual(
    xs: &Tensor,
    residual: &Tensor,
    weight: Option<&Tensor>,
    options: &RmsNorm<'_>,
) -> Result<(Tensor, Tensor)> {
    Ok(op::rms_norm_residual::rms_norm_residual(xs, residual, weight, options)?)
}

/// Layer normalisation along the last dimension; see [`crate::layer_norm`]. Weight and bias as the weight of
/// [`rms_norm`].
///
/// # Errors
/// As [`crate::layer_norm`], and see the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{LayerNorm, candle::guarded};
/// let x = Tensor::new(&[[40000f32, 40001., 40002., 40003.]], &Device::Cpu)?;
/// let y = guarded::layer_norm(&x, None, None, &LayerNorm::default())?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1.3416355, -0.4472118, 0.4472118, 1.3416355]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn layer_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &LayerNorm<'_>,
) -> Result<Tensor> {
    Ok(op::layer_norm::layer_norm(xs, weight, bias, options)?)
}
