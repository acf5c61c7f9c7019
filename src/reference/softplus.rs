//! The softplus.

use super::Real;
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
