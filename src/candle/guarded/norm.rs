//! Norms on candle tensors, with all options and typed errors.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::group_norm::GroupNorm;
use crate::ops::l2_normalize::L2Normalize;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rms_norm_linear::RmsNormLinear;
use candle_core::Tensor;
use candle_core::shape::Dim;

/// Computes root-mean-square normalisation along the last dimension; see [`crate::rms_norm`].
///
/// The weight has one dimension, may have any float type, and has a gradient. A weight in the options has no gradient.
/// A call with both weights returns an error.
///
/// # Errors
/// The errors of [`crate::rms_norm`]; see also the [module](super).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use evenkeel::{RmsNorm, candle::guarded};
/// let x = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?.to_dtype(DType::BF16)?;
/// let weight = Tensor::new(&[0f32, 1.], &Device::Cpu)?; // stored minus 1, in a wider type than x
/// let y = guarded::rms_norm(&x, Some(&weight), &RmsNorm::default().weight_offset(1.0))?;
/// assert_eq!(y.to_dtype(DType::F32)?.to_vec2::<f32>()?, [[0.84765625, 2.265625]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &RmsNorm<'_>) -> Result<Tensor> {
    Ok(op::rms_norm::rms_norm(xs, weight, options)?)
}

/// Computes [`rms_norm`] of `xs + residual`; see [`crate::rms_norm_residual`].
///
/// Returns the normalised sum, and the sum itself, which the next layer needs. One pass computes both tensors.
///
/// # Errors
/// The errors of [`rms_norm`], and [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for a residual of another
/// shape.
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

/// Computes [`rms_norm`] followed by a linear layer; see [`crate::rms_norm_linear`].
///
/// The matrix is `[results, cols]`, as in [`candle_nn::Linear`], and has the type of `xs`. The bias is handled like the
/// weight of [`rms_norm`].
///
/// Gradients are computed by candle's matrix products and by the gradient of [`rms_norm`]. For f16 and bf16, the
/// products are in f32.
///
/// # Errors
/// The errors of [`crate::rms_norm_linear`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{RmsNorm, RmsNormLinear, candle::guarded};
/// let x = Tensor::new(&[[3e20f32, -3e20]], &Device::Cpu)?;
/// let matrix = Tensor::new(&[[1f32, 1.], [1., -1.], [3e38, 3e38]], &Device::Cpu)?;
/// let options = RmsNormLinear::default().norm(RmsNorm::default().eps(0.0));
/// let y = guarded::rms_norm_linear(&x, &matrix, None, None, &options)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.0, 2.0, 0.0]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm_linear(
    xs: &Tensor,
    matrix: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &RmsNormLinear<'_>,
) -> Result<Tensor> {
    Ok(op::rms_norm_linear::rms_norm_linear(xs, matrix, weight, bias, options)?)
}

/// Computes layer normalisation along the last dimension; see [`crate::layer_norm`].
///
/// Weight and bias are handled like the weight of [`rms_norm`].
///
/// # Errors
/// The errors of [`crate::layer_norm`]; see also the [module](super).
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

/// Computes group normalisation of `[batch, channels, ..]`; see [`crate::group_norm`].
///
/// Weight and bias have one value for each channel, and are handled like the weight of [`rms_norm`].
///
/// Gradients are computed by [`crate::layer_norm_backward`], where each group is a row. The gradients of weight and
/// bias are summed over the batch in order, then over each channel by a [tiled sum](crate::math::sum), and rounded
/// once.
///
/// # Errors
/// The errors of [`crate::group_norm`]; see also the [module](super).
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for a tensor without a channel axis.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{GroupNorm, candle::guarded};
/// // Two channels of two elements; each channel is a group.
/// let x = Tensor::new(&[[[40000f32, 40001.], [1., 3.]]], &Device::Cpu)?;
/// let y = guarded::group_norm(&x, None, None, &GroupNorm::new(2).eps(0.0))?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[-1.0, 1.0], [-1.0, 1.0]]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn group_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &GroupNorm<'_>,
) -> Result<Tensor> {
    Ok(op::group_norm::group_norm(xs, weight, bias, options)?)
}

/// Divides each lane along a dimension by its Euclidean norm; see [`crate::l2_normalize`].
///
/// The gradient is `(dy - y * sum(dy * y)) / norm`, or `dy / eps` in lanes whose norm is not above eps. Here y is the
/// result, and dy is the gradient of the result. The gradient is computed with candle's ops in f64 and rounded once. If
/// dy is finite, the gradient is limited to the type's finite range. Lanes of zeros have a gradient of zero if eps is
/// 0.
///
/// # Errors
/// The errors of [`crate::l2_normalize`]; see also the [module](super).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use evenkeel::{L2Normalize, candle::guarded};
/// let x = Tensor::new(&[[300f32, -400.], [0., 0.]], &Device::Cpu)?.to_dtype(DType::F16)?;
/// let y = guarded::l2_normalize(&x, 1, &L2Normalize::default())?;
/// assert_eq!(y.to_dtype(DType::F32)?.to_vec2::<f32>()?, [[0.60009766, -0.7998047], [0.0, 0.0]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn l2_normalize<D: Dim>(xs: &Tensor, dim: D, options: &L2Normalize) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "l2_normalize")?;
    Ok(op::l2_normalize::l2_normalize(xs, axis, options)?)
}
