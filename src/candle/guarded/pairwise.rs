//! Elementwise ops on two candle tensors, with options and typed errors.

#![forbid(unsafe_code)]

use crate::candle::op::{pairwise as op, swiglu as gated};
use crate::error::Result;
use crate::ops::safe_div::SafeDiv;
use candle_core::Tensor;

/// Computes x / d of each pair of elements, with a finite result; see [`crate::safe_div`]. Both tensors must have the
/// same shape and type.
///
/// With dy as the gradient of the result, the gradient of x is `dy / d`, and the gradient of d is `-dy * x / d^2`. If
/// |d| is below eps, d is replaced by eps with the sign of d, as in the op. Gradients are computed with candle's ops in
/// f64 and rounded once. Both gradients are 0 if the quotient is limited to the largest value, or if both `d` and `eps`
/// are zero. The gradient of d is also 0 if |d| is below eps, because a small change of such a d does not change the
/// result. If dy is finite, gradients are limited to the type's largest finite value.
///
/// # Errors
/// The errors of [`crate::safe_div`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use evenkeel::{SafeDiv, candle::guarded};
/// let (x, d) = (Tensor::new(&[6f32, 0., 1.], &Device::Cpu)?, Var::new(&[3f32, 0., 0.], &Device::Cpu)?);
/// let y = guarded::safe_div(&x, &d, &SafeDiv::default().eps(0.5))?;
/// assert_eq!(y.to_vec1::<f32>()?, [2.0, 0.0, 2.0]);
/// let grads = y.backward()?;
/// assert_eq!(grads.get(&d).map(|dd| dd.to_vec1::<f32>()).transpose()?, Some(vec![-6.0 / 9.0, 0.0, 0.0]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn safe_div(xs: &Tensor, d: &Tensor, options: &SafeDiv) -> Result<Tensor> {
    Ok(op::safe_div(xs, d, options)?)
}

/// Computes ln(e^a + e^b) of each pair of elements; see [`crate::log_add_exp`]. Both tensors must have the same shape
/// and type.
///
/// Let dy be the gradient of the result. The gradient of a is `dy / (1 + e^(b - a))`, and the gradient of b is
/// `dy / (1 + e^(a - b))`. Gradients are computed in f64 and rounded once. Both gradients are `dy / 2` if both elements
/// are +inf, and 0 if both elements are -inf.
///
/// # Errors
/// The errors of [`crate::log_add_exp`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::guarded;
/// let inf = f32::INFINITY;
/// let a = Tensor::new(&[1000f32, -inf, 0.], &Device::Cpu)?;
/// let b = Tensor::new(&[1000f32, -inf, -100.], &Device::Cpu)?;
/// assert_eq!(guarded::log_add_exp(&a, &b)?.to_vec1::<f32>()?, [1000.6932, -inf, 3.783506e-44]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(op::log_add_exp(a, b)?)
}

/// Computes silu(gate) * up of each pair of elements; see [`crate::swiglu`]. Both tensors must have the same shape and
/// type.
///
/// Gradients are computed by [`crate::swiglu_backward`].
///
/// # Errors
/// The errors of [`crate::swiglu`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::guarded;
/// let (gate, up) = (Tensor::new(&[1f32, -95.], &Device::Cpu)?, Tensor::new(&[2f32, 1e30], &Device::Cpu)?);
/// assert_eq!(guarded::swiglu(&gate, &up)?.to_vec1::<f32>()?, [1.4621172, -5.2450283e-10]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok(gated::swiglu(gate, up)?)
}
