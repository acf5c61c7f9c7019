//! The logistic function.

use super::Real;
use crate::element::Element;

/// 1 / (1 + e^-x) of [`sigmoid`](crate::sigmoid()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::sigmoid(-90.0f32), (-90.0f64).exp());
/// ```
pub fn sigmoid<E: Element>(x: E) -> E::Exact {
    sigmoid_of(E::Exact::from(x.widen()))
}

/// [`sigmoid`] of a number that is [`Real`] already.
pub fn sigmoid_of<R: Real>(x: R) -> R {
    let one = R::from(1.0);
    // e^-|x| cannot overflow.
    let t = (-x.abs()).exp();
    if x < R::from(0.0) { t / (one + t) } else { one / (one + t) }
}

/// The slope of [`sigmoid`], s (1 - s) with s = 1 / (1 + e^-x), which [`sigmoid_backward`](crate::sigmoid_backward()) multiplies a gradient with, unrounded.
pub fn sigmoid_slope<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    sigmoid_of(x) * sigmoid_of(-x)
}
