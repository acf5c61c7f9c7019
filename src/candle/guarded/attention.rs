//! Guarded form of attention.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::attention::Attention;
use candle_core::Tensor;

/// Attention of queries `[batch, heads, queries, features]` over keys and values `[batch, heads of keys, keys, ..]`; see
/// [`crate::attention`].
///
/// Tensors of any strides whose features lie side by side are read where they are: transposed projections, narrowed
/// caches, keys broadcast to a batch. The scores of a block of keys are all that is held at a time, and so it is for the
/// gradients of q, k and v, which are those of [`crate::attention_backward`]; a mask and sinks are constants. A
/// device holds all scores, and takes masks, which are read on the host.
///
/// # Errors
/// As [`crate::attention`], and see the [module](super).
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use evenkeel::{Attention, Mask, candle::guarded};
/// // Four heads of queries that share two of keys, as a projection leaves them; the second sequence has one token.
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
