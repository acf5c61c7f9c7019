//! The exponential.

use super::Real;
use crate::element::Element;

/// Returns e^x, the unrounded result of [`exp`](crate::exp()).
///
/// ```
/// assert_eq!(evenkeel::reference::exp(0.5f32), 0.5f64.exp());
/// ```
pub fn exp<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}

/// Returns the unrounded derivative of [`exp`], e^x.
///
/// [`exp_backward`](crate::exp_backward()) multiplies gradients by it.
pub fn exp_slope<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}
