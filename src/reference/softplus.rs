//! The softplus function.

use super::{Real, sigmoid_of};
use crate::element::Element;

/// Returns ln(1 + e^x), the unrounded result of [`softplus`](crate::softplus()).
///
/// ```
/// assert_eq!(evenkeel::reference::softplus(800.0f32), 800.0);
/// ```
pub fn softplus<E: Element>(x: E) -> E::Exact {
    softplus_of(E::Exact::from(x.widen()))
}

/// Computes [`softplus`] of a [`Real`] number.
pub fn softplus_of<R: Real>(x: R) -> R {
    // e^-|x| cannot overflow.
    let log = (-x.abs()).exp().ln_1p();
    if x > R::from(0.0) { x + log } else { log }
}

/// Returns the unrounded derivative of [`softplus`], 1 / (1 + e^-x).
///
/// [`softplus_backward`](crate::softplus_backward()) multiplies gradients by it.
pub fn softplus_slope<E: Element>(x: E) -> E::Exact {
    sigmoid_of(E::Exact::from(x.widen()))
}
