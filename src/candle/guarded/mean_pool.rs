//! Mean pooling over tokens on candle tensors, with a mask and typed errors.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::mean_pool::MeanPool;
use candle_core::Tensor;
use candle_core::shape::Dim;

/// Computes the mean over the unmasked tokens along a dimension, and removes that dimension; see [`crate::mean_pool`].
///
/// The mask broadcasts to the dimensions up to and including `dim`. For a tensor `[batch, tokens, width]` and `dim` 1,
/// these are `[batch, tokens]`. The gradient is computed by [`crate::mean_pool_backward`]; masked tokens have a
/// gradient of zero. Masks also work on devices other than the CPU, but are then expanded on the host.
///
/// # Errors
/// The errors of [`crate::mean_pool`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{Mask, MeanPool, candle::guarded};
/// // Two sequences of up to two tokens of width 2. The second sequence is padding that contains NaN.
/// let nan = f32::NAN;
/// let x = Tensor::new(&[[[1f32, 2.], [3., 4.]], [[nan, nan], [nan, nan]]], &Device::Cpu)?;
/// let mask = Mask::lengths(&[2, 0]);
/// let y = guarded::mean_pool(&x, 1, &MeanPool::default().mask(&mask))?;
/// assert_eq!(y.to_vec2::<f32>()?, [[2.0, 3.0], [0.0, 0.0]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn mean_pool<D: Dim>(xs: &Tensor, dim: D, options: &MeanPool<'_>) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "mean_pool")?;
    Ok(op::mean_pool::mean_pool(xs, axis, options)?)
}
