//! The logarithm of the logistic function.

use super::{Real, sigmoid_of, softplus_of};
use crate::element::Element;

/// -ln(1 + e^-x) of [`log_sigmoid`](crate::log_sigmoid()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::log_sigmoid(-800.0f32), -800.0);
/// ```
pub fn log_sigmoid<E: Element>(x: E) -> E::Exact {
    log_sigmoid_of(E::Exact::from(x.widen()))
}

/// [`log_sigmoid`] of a number that is [`Real`] already.
pub fn log_sigmoid_of<R: Real>(x: R) -> R {
    -softplus_of(-x)
}

/// The slope of [`log_sigmoid`], 1 / (1 + e^x), which [`log_sigmoid_backward`](crate::log_sigmoid_backward()) multiplies a gradient with, unrounded.
pub fn log_sigmoid_slope<E: Element>(x: E) -> E::Exact {
    sigmoid_of(-E::Exact::from(x.widen()))
}
