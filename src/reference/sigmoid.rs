//! The logistic function.

use super::Real;
use crate::element::Element;

/// Returns 1 / (1 + e^-x), the unrounded result of [`sigmoid`](crate::sigmoid()).
///
/// ```
/// assert_eq!(evenkeel::reference::sigmoid(-90.0f32), (-90.0f64).exp());
/// ```
pub fn sigmoid<E: Element>(x: E) -> E::Exact {
    sigmoid_of(E::Exact::from(x.widen()))
}

/// Computes [`sigmoid`] of a [`Real`] number.
pub fn sigmoid_of<R: Real>(x: R) -> R {
    let one = R::from(1.0);
    // e^-|x| cannot overflow.
    let t = (-x.abs()).exp();
    if x < R::from(0.0) { t / (one + t) } else { one / (one + t) }
}

/// Returns the unrounded derivative of [`sigmoid`], s (1 - s) with s = 1 / (1 + e^-x).
///
/// [`sigmoid_backward`](crate::sigmoid_backward()) multiplies gradients by it.
pub fn sigmoid_slope<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    sigmoid_of(x) * sigmoid_of(-x)
}
