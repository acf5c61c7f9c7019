//! The exponential minus 1.

use super::Real;
use crate::element::Element;

/// Returns e^x - 1, the unrounded result of [`expm1`](crate::expm1()).
///
/// ```
/// assert_eq!(evenkeel::reference::expm1(0.5f32), 0.5f64.exp_m1());
/// ```
pub fn expm1<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp_m1()
}

/// Returns the unrounded derivative of [`expm1`], e^x.
///
/// [`expm1_backward`](crate::expm1_backward()) multiplies gradients by it.
pub fn expm1_slope<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}
