//! All of [`candle_nn::loss`], with the losses of logits replaced by versions that do not overflow.

#![forbid(unsafe_code)]

pub use candle_nn::loss::*;

use super::composition;
use super::op::{bce_with_logits, cross_entropy};
use super::support::is_foreign;
use crate::ops::bce_with_logits::BceWithLogits;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::loss::Reduction;
use candle_core::{DType, Error, Result, Tensor};

/// Computes the cross-entropy of logits `[N, C]` against class numbers `[N]`, averaged over the batch.
///
/// Exponentials are computed in f32, or in f64 for f64 logits. Everything else is computed in f64. The loss and its
/// gradient are each rounded once; see [`crate::cross_entropy`]. In all other respects, this function behaves like
/// [`candle_nn::loss::cross_entropy`]. In particular, every row counts in the mean. For more options, see
/// [`guarded::cross_entropy`](super::guarded::cross_entropy).
///
/// # Errors
/// Candle's error for shapes that do not match.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::loss;
/// let logits = Tensor::new(&[[40f32, 0.]], &Device::Cpu)?;
/// let loss = loss::cross_entropy(&logits, &Tensor::new(&[0u32], &Device::Cpu)?)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 4.248354e-18); // candle: 0
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn cross_entropy(inp: &Tensor, target: &Tensor) -> Result<Tensor> {
    if inp.rank() != 2 {
        let shape = inp.shape().clone();
        return Err(Error::UnexpectedNumberOfDims { expected: 2, got: inp.rank(), shape }.bt());
    }
    if is_foreign(inp) {
        return candle_nn::loss::cross_entropy(inp, target);
    }
    // If the target is the largest number of its type, candle gives the row a loss of 0 and counts the row in the mean.
    // This function does the same.
    let largest = match target.dtype() {
        DType::U8 => u8::MAX.into(),
        DType::U32 => u32::MAX.into(),
        _ => i64::MAX,
    };
    let options = CrossEntropy::default().ignore_index(largest);
    let loss = if cross_entropy::numbers(inp, target)?.contains(&largest) {
        let sum = cross_entropy::cross_entropy(inp, target, &options.reduction(Reduction::Sum))?;
        sum.affine(1.0 / inp.dim(0)? as f64, 0.0)?
    } else {
        cross_entropy::cross_entropy(inp, target, &options)?
    };
    loss.to_dtype(inp.dtype())
}

/// Computes the binary cross-entropy of logits against targets of the same shape, averaged over all elements.
///
/// The loss and its gradients are finite for all finite logits. Candle's loss is infinite or NaN once the sigmoid
/// rounds to 0 or 1. Loss and gradient are computed in f64 and each rounded once; see [`crate::bce_with_logits`]. If
/// candle tracks the targets, this function uses the [`composition`], which also computes the targets' gradient. In all
/// other respects, this function behaves like [`candle_nn::loss::binary_cross_entropy_with_logit`]. For weights, see
/// [`guarded::bce_with_logits`](super::guarded::bce_with_logits).
///
/// # Errors
/// Candle's error for shapes or types that do not match. For a target outside 0 ..= 1, candle's error wraps
/// [`crate::Error::InvalidArgument`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::loss;
/// let (logits, targets) = (Tensor::new(&[200f32, -200.], &Device::Cpu)?, Tensor::new(&[0f32, 1.], &Device::Cpu)?);
/// let loss = loss::binary_cross_entropy_with_logit(&logits, &targets)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 200.0); // candle: inf
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn binary_cross_entropy_with_logit(inp: &Tensor, target: &Tensor) -> Result<Tensor> {
    if is_foreign(inp) {
        return candle_nn::loss::binary_cross_entropy_with_logit(inp, target);
    }
    if inp.rank() == 0 {
        return binary_cross_entropy_with_logit(&inp.unsqueeze(0)?, &target.unsqueeze(0)?);
    }
    let options = BceWithLogits::default();
    let loss = if target.track_op() {
        composition::bce_with_logits(inp, target, &options)?
    } else {
        bce_with_logits::bce_with_logits(inp, target, &options)?
    };
    loss.to_dtype(inp.dtype())
}
