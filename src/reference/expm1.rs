//! The exponential less one.

use super::Real;
use crate::element::Element;

/// e^x - 1 of [`expm1`](crate::expm1()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::expm1(0.5f32), 0.5f64.exp_m1());
/// ```
pub fn expm1<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp_m1()
}

/// The slope of [`expm1`], e^x, which [`expm1_backward`](crate::expm1_backward()) multiplies a gradient with, unrounded.
pub fn expm1_slope<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}
