//! The softplus.

use super::{Real, sigmoid_of};
use crate::element::Element;

/// ln(1 + e^x) of [`softplus`](crate::softplus()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::softplus(800.0f32), 800.0);
/// ```
pub fn softplus<E: Element>(x: E) -> E::Exact {
    softplus_of(E::Exact::from(x.widen()))
}

/// [`softplus`] of a number that is [`Real`] already.
pub fn softplus_of<R: Real>(x: R) -> R {
    // e^-|x| cannot overflow.
    let log = (-x.abs()).exp().ln_1p();
    if x > R::from(0.0) { x + log } else { log }
}

/// The slope of [`softplus`], 1 / (1 + e^-x), which [`softplus_backward`](crate::softplus_backward()) multiplies a gradient with, unrounded.
pub fn softplus_slope<E: Element>(x: E) -> E::Exact {
    sigmoid_of(E::Exact::from(x.widen()))
}
