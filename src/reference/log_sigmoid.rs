//! The logarithm of the logistic function.

use super::{Real, sigmoid_of, softplus_of};
use crate::element::Element;

/// Returns -ln(1 + e^-x), the unrounded result of [`log_sigmoid`](crate::log_sigmoid()).
///
/// ```
/// assert_eq!(evenkeel::reference::log_sigmoid(-800.0f32), -800.0);
/// ```
pub fn log_sigmoid<E: Element>(x: E) -> E::Exact {
    log_sigmoid_of(E::Exact::from(x.widen()))
}

/// Computes [`log_sigmoid`] of a [`Real`] number.
pub fn log_sigmoid_of<R: Real>(x: R) -> R {
    -softplus_of(-x)
}

/// Returns the unrounded derivative of [`log_sigmoid`], 1 / (1 + e^x).
///
/// [`log_sigmoid_backward`](crate::log_sigmoid_backward()) multiplies gradients by it.
pub fn log_sigmoid_slope<E: Element>(x: E) -> E::Exact {
    sigmoid_of(-E::Exact::from(x.widen()))
}
