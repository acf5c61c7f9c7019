//! The softmax family on candle tensors, with all options and typed errors.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use candle_core::Tensor;
use candle_core::shape::Dim;

/// Computes softmax along a dimension; see [`crate::softmax`]. Masks broadcast to the tensor's shape.
///
/// # Errors
/// The errors of [`crate::softmax`]; see also the [module](super).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use evenkeel::{Error, FullyMasked, Softmax, candle::guarded};
/// let scores = Tensor::new(&[[0f32, 1.], [f32::NEG_INFINITY, f32::NEG_INFINITY]], &Device::Cpu)?;
/// let refused = guarded::softmax(&scores, 1, &Softmax::default().fully_masked(FullyMasked::Error));
/// assert_eq!(refused.unwrap_err(), Error::fully_masked("softmax", 1));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn softmax<D: Dim>(xs: &Tensor, dim: D, options: &Softmax<'_>) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "softmax")?;
    Ok(op::softmax::softmax(xs, axis, options)?)
}

/// Computes the logarithm of softmax along a dimension; see [`crate::log_softmax`].
///
/// # Errors
/// The errors of [`softmax`].
pub fn log_softmax<D: Dim>(xs: &Tensor, dim: D, options: &Softmax<'_>) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "log_softmax")?;
    Ok(op::softmax::log_softmax(xs, axis, options)?)
}

/// Computes the log-sum-exp along a dimension; see [`crate::logsumexp`]. The dimension is kept with length 1 if
/// `keepdim` is set, and removed otherwise.
///
/// # Errors
/// The errors of [`softmax`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{Softmax, candle::guarded};
/// let x = Tensor::new(&[[1000f32, 1000.], [0., 0.]], &Device::Cpu)?;
/// let y = guarded::logsumexp(&x, 1, false, &Softmax::default())?;
/// assert_eq!(y.to_vec1::<f32>()?, [1000.6932, 0.6931472]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn logsumexp<D: Dim>(xs: &Tensor, dim: D, keepdim: bool, options: &Softmax<'_>) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "logsumexp")?;
    Ok(op::softmax::logsumexp(xs, axis, keepdim, options)?)
}
