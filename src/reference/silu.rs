//! The sigmoid-weighted linear unit.

use super::{Real, sigmoid_of};
use crate::element::Element;

/// Returns x / (1 + e^-x), the unrounded result of [`silu`](crate::silu()).
///
/// ```
/// assert_eq!(evenkeel::reference::silu(0.0f32), 0.0);
/// ```
pub fn silu<E: Element>(x: E) -> E::Exact {
    silu_of(E::Exact::from(x.widen()))
}

/// Computes [`silu`] of a [`Real`] number.
pub fn silu_of<R: Real>(x: R) -> R {
    // Returns the limit, because the product would be -inf * 0.
    if x == R::from(f64::NEG_INFINITY) {
        return R::from(-0.0);
    }
    x * sigmoid_of(x)
}

/// Returns the unrounded derivative of [`silu`], s + x s (1 - s) with s = 1 / (1 + e^-x).
///
/// [`silu_backward`](crate::silu_backward()) multiplies gradients by it.
pub fn silu_slope<E: Element>(x: E) -> E::Exact {
    // Returns the limits, because the product would be an infinity times 0.
    if x.widen().is_infinite() {
        return E::Exact::from(if x.widen() > 0.0 { 1.0 } else { 0.0 });
    }
    let x = E::Exact::from(x.widen());
    sigmoid_of(x) + x * sigmoid_of(x) * sigmoid_of(-x)
}
