//! Guarded forms of the ops on two elements at a time.

#![forbid(unsafe_code)]

use crate::candle::op::{pairwise as op, swiglu as gated};
use crate::error::Result;
use crate::ops::safe_div::SafeDiv;
use candle_core::Tensor;

/// x / d of each pair of elements, which is finite; see [`crate::safe_div`]. Both have one shape and one type.
///
/// Gradients are those of the formula, by candle's ops in f64, rounded once: `dy / d` of x and `-dy x / d^2` of d, with
/// the divisor kept away from zero as in the op. They are 0 where a small step changes nothing: beyond the largest
/// value, of d also where it is below eps; and where `d` and `eps` are both 0. Where dy is finite they are, too, at most
/// the type's largest value.
///
/// # Errors
/// As [`crate::safe_div`], and see the [module](super).
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

/// ln(e^a + e^b) of each pair of elements; see [`crate::log_add_exp`]. Both have one shape and one type.
///
/// Gradients are those of the formula in f64, rounded once: `dy / (1 + e^(b - a))` of a and `dy / (1 + e^(a - b))` of b,
/// halves of dy for two of +inf, and 0 for two of -inf.
///
/// # Errors
/// As [`crate::log_add_exp`], and see the [module](super).
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

/// silu(gate) * up of each pair of elements; see [`crate::swiglu`]. Both have one shape and one type.
///
/// Gradients are those of [`crate::swiglu_backward`].
///
/// # Errors
/// As [`crate::swiglu`], and see the [module](super).
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
