//! Losses on candle tensors, with all options and typed errors.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::bce_with_logits::BceWithLogits;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::kl_div::KlDiv;
use candle_core::Tensor;

/// Computes the cross-entropy of logits `[.., classes]` against class numbers `[..]` of type U8, U32 or I64; see
/// [`crate::cross_entropy`].
///
/// The loss is a scalar, or has the targets' shape under [`Reduction::None`](crate::Reduction::None). The loss is f64
/// for f64 logits, and f32 for logits of all other types. [`crate::cross_entropy_backward`] computes the gradient of
/// the logits, in the type of the logits.
///
/// # Errors
/// The errors of [`crate::cross_entropy`]; see also the [module](super).
/// [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for targets of another type.
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

/// Computes the binary cross-entropy of logits `[.., columns]` against targets of the same shape and any float type;
/// see [`crate::bce_with_logits`].
///
/// The loss is a scalar, or has the logits' shape under [`Reduction::None`](crate::Reduction::None). It is f64 for f64
/// logits and f32 otherwise. [`crate::bce_with_logits_backward`] computes the gradient of the logits, in the type of
/// the logits. Targets have no gradient. With [`BceWithLogits::focal_gamma`], the loss is a focal loss.
///
/// # Errors
/// The errors of [`crate::bce_with_logits`]; see also the [module](super).
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use evenkeel::{BceWithLogits, candle::guarded};
/// let logits = Var::new(&[[40f32, 0.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[1f32, 1.0]], &Device::Cpu)?;
/// let options = BceWithLogits::default().pos_weight(&[1.0f32, 3.0]);
/// let loss = guarded::bce_with_logits(&logits, &targets, &options)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 1.5 * std::f32::consts::LN_2);
/// let grads = loss.backward()?;
/// let dx = grads.get(&logits).map(|dx| dx.to_vec2::<f32>()).transpose()?;
/// assert_eq!(dx, Some(vec![vec![-2.124177e-18, -0.75]]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor, options: &BceWithLogits<'_>) -> Result<Tensor> {
    Ok(op::bce_with_logits::bce_with_logits(logits, targets, options)?)
}

/// Computes the Kullback-Leibler divergence KL(targets || softmax(logits)); see [`crate::kl_div`].
///
/// Logits are `[.., classes]`. Targets are probabilities of the same shape and any float type. The loss is a scalar.
/// Under [`Reduction::None`](crate::Reduction::None), the loss has one number for each row, or with
/// [`KlDiv::log_probs`](crate::KlDiv::log_probs) one number for each element. The loss is f64 for f64 logits and f32
/// otherwise. [`crate::kl_div_backward`] computes the gradient of the logits, in the type of the logits. Targets have
/// no gradient.
///
/// # Errors
/// The errors of [`crate::kl_div`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use evenkeel::{KlDiv, candle::guarded};
/// let student = Var::new(&[[40f32, 0.0]], &Device::Cpu)?;
/// let teacher = Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?;
/// let loss = guarded::kl_div(&student, &teacher, &KlDiv::default())?;
/// assert_eq!(loss.to_scalar::<f32>()?, 4.248354e-18);
/// let grads = loss.backward()?;
/// let dx = grads.get(&student).map(|dx| dx.to_vec2::<f32>()).transpose()?;
/// assert_eq!(dx, Some(vec![vec![-4.248354e-18, 4.248354e-18]]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn kl_div(logits: &Tensor, targets: &Tensor, options: &KlDiv) -> Result<Tensor> {
    Ok(op::kl_div::kl_div(logits, targets, options)?)
}
