//! Rotary embedding on candle tensors, alone and fused with RMSNorm of the heads.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rope::RopeTable;
use candle_core::Tensor;

/// Computes the rotary embedding of `[.., positions, cols]` with a table; see [`crate::rope`].
///
/// On a CUDA device, the first call copies the table to the device. This is an error while a graph is captured. Later
/// calls with this table or a clone use the copy. The copy is freed with the last clone, so keep one as long as
/// captured graphs run. On the per-thread default stream of candle 0.11, the drop and the first call of another thread
/// may wait for the device. CUDA does not allow this while any thread captures a graph.
///
/// # Errors
/// The errors of [`crate::rope`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{Rope, RopeTable, candle::guarded};
/// let table = RopeTable::new(&[1_000_000_000_000], 2, &Rope::default())?;
/// let y = guarded::rope(&Tensor::new(&[[1f32, 0.]], &Device::Cpu)?, &table)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.7914463, -0.6112387]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rope(xs: &Tensor, table: &RopeTable) -> Result<Tensor> {
    Ok(op::rope::rope(xs, table)?)
}

/// Computes root-mean-square normalisation of the rows of `[.., positions, cols]`, then rotary embedding with a table;
/// see [`crate::qk_norm_rope`].
///
/// The weight is handled like the weight of [`rms_norm`](super::rms_norm).
///
/// # Errors
/// The errors of [`crate::qk_norm_rope`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{RmsNorm, Rope, RopeTable, candle::guarded};
/// let table = RopeTable::new(&[0], 2, &Rope::default())?;
/// let weight = Tensor::new(&[96.5f32, 0.5], &Device::Cpu)?;
/// let keys = Tensor::new(&[[0.2f32, -0.2]], &Device::Cpu)?;
/// let y = guarded::qk_norm_rope(&keys, Some(&weight), &table, &RmsNorm::default().eps(0.0))?;
/// assert_eq!(y.to_vec2::<f32>()?, [[96.5, -0.5]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn qk_norm_rope(xs: &Tensor, weight: Option<&Tensor>, table: &RopeTable, options: &RmsNorm<'_>) -> Result<Tensor> {
    Ok(op::qk_norm_rope::qk_norm_rope(xs, weight, table, options)?)
}
