//! The sigmoid-weighted linear unit.

use super::{Real, sigmoid_of};
use crate::element::Element;

/// x / (1 + e^-x) of [`silu`](crate::silu()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::silu(0.0f32), 0.0);
/// ```
pub fn silu<E: Element>(x: E) -> E::Exact {
    silu_of(E::Exact::from(x.widen()))
}

/// [`silu`] of a number that is [`Real`] already.
pub fn silu_of<R: Real>(x: R) -> R {
    // The limit; the product would be -inf * 0.
    if x == R::from(f64::NEG_INFINITY) {
        return R::from(-0.0);
    }
    x * sigmoid_of(x)
}
