//! Powers of two.

use super::Real;
use crate::element::Element;

/// Returns 2^x, the unrounded result of [`exp2`](crate::exp2()).
///
/// ```
/// assert_eq!(evenkeel::reference::exp2(0.5f32), std::f64::consts::SQRT_2);
/// ```
pub fn exp2<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp2()
}

/// Returns the unrounded derivative of [`exp2`], 2^x ln 2.
///
/// [`exp2_backward`](crate::exp2_backward()) multiplies gradients by it.
pub fn exp2_slope<E: Element>(x: E) -> E::Exact {
    exp2(x) * E::Exact::from(2.0).ln()
}
