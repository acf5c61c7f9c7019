//! Guarded form of the mean over tokens.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::mean_pool::MeanPool;
use candle_core::Tensor;
use candle_core::shape::Dim;

/// The mean along a dimension of tokens, which is then gone, over those that are not masked; see [`crate::mean_pool`].
///
/// The mask broadcasts to the shape up to that dimension: of `[batch, tokens, width]` along 1, `[batch, tokens]`. The
/// gradient is that of [`crate::mean_pool_backward`]; masked tokens have none. Devices take masks, too, which are read on
/// the host.
///
/// # Errors
/// As [`crate::mean_pool`], and see the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{Mask, MeanPool, candle::guarded};
/// // Two sequences of up to two tokens of width 2; the second is padding, and nobody cleared it.
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
