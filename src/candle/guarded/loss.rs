//! Guarded forms of losses.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::cross_entropy::CrossEntropy;
use candle_core::Tensor;

/// The cross-entropy of logits `[.., classes]` against class numbers `[..]` of U8, U32 or I64; see
/// [`crate::cross_entropy`].
///
/// The loss is a scalar, or has the targets' shape under [`Reduction::None`](crate::Reduction::None): f32, or f64 of
/// f64 logits, whatever is to become of it in a narrower type. Its gradient by the logits is computed by
/// [`crate::cross_entropy_backward`], in their type.
///
/// # Errors
/// As [`crate::cross_entropy`], and see the [module](super). Targets of another type are
/// [`Error::UnsupportedDType`](crate::Error::UnsupportedDType).
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use evenkeel::{CrossEntropy, candle::guarded};
/// let logits = Var::zeros((3, 256), DType::BF16, &Device::Cpu)?;
/// let targets = candle_core::Tensor::new(&[7i64, -100, 0], &Device::Cpu)?; // the second is padding
/// let loss = guarded::cross_entropy(&logits, &targets, &CrossEntropy::default())?;
/// assert_eq!(loss.to_scalar::<f32>()?, 256f32.ln());
/// let grads = loss.backward()?;
/// let first = grads.get(&logits).map(|dx| dx.get(0)?.to_dtype(DType::F32)?.to_vec1::<f32>()).transpose()?;
/// assert_eq!(first.map(|dx| (dx[0], dx[7])), Some((1.0 / 512.0, -255.0 / 512.0)));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, options: &CrossEntropy<'_>) -> Result<Tensor> {
    Ok(op::cross_entropy::cross_entropy(logits, targets, options)?)
}
