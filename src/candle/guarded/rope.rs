//! Guarded form of rotary embedding.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::rope::RopeTable;
use candle_core::Tensor;

/// Rotary embedding of `[.., positions, cols]` by a table; see [`crate::rope`].
///
/// # Errors
/// As [`crate::rope`], and see the [module](super).
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
