//! Attention on candle tensors, with all options and typed errors.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::attention::Attention;
use candle_core::Tensor;

/// Computes attention of queries `[batch, heads, queries, features]` over keys and values
/// `[batch, heads of keys, keys, ..]`; see [`crate::attention`].
///
/// Tensors are read without a copy if the stride of their last axis is 1. Examples are transposed projections, narrowed
/// caches, and keys that are broadcast to a batch. Only the scores of one block of keys are in memory at a time, in the
/// forward and the backward pass. Gradients are computed by [`crate::attention_backward`]; mask and sinks are
/// constants. On devices other than the CPU, all scores are in memory at once, and masks are expanded on the host.
///
/// # Errors
/// The errors of [`crate::attention`]; see also the [module](super).
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use evenkeel::{Attention, Mask, candle::guarded};
/// // Four query heads share two key heads, in the layout of a projection. The second sequence has one token.
/// let projected = Tensor::ones((2, 3, 4, 8), DType::BF16, &Device::Cpu)?;
/// let q = Var::from_tensor(&projected.transpose(1, 2)?)?;
/// let kv = projected.narrow(2, 0, 2)?.transpose(1, 2)?;
/// let mask = Mask::causal().and_lengths(&[3, 1]);
/// let y = guarded::attention(&q, &kv, &kv, &Attention::default().mask(&mask))?;
/// assert_eq!(y.dims(), [2, 4, 3, 8]);
/// assert!(y.backward()?.get(&q).is_some());
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &Attention<'_>) -> Result<Tensor> {
    Ok(op::attention::attention(q, k, v, options)?)
}
