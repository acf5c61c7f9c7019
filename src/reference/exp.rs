//! The exponential.

use super::Real;
use crate::element::Element;

/// e^x of [`exp`](crate::exp()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::exp(0.5f32), 0.5f64.exp());
/// ```
pub fn exp<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}

/// The slope of [`exp`], e^x, which [`exp_backward`](crate::exp_backward()) multiplies a gradient with, unrounded.
pub fn exp_slope<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}
