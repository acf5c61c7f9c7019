//! The logarithm of the logistic function.

use super::{Real, softplus_of};
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
