//! Powers of two.

use super::Real;
use crate::element::Element;

/// 2^x of [`exp2`](crate::exp2()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::exp2(0.5f32), std::f64::consts::SQRT_2);
/// ```
pub fn exp2<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp2()
}

/// The slope of [`exp2`], 2^x ln 2, which [`exp2_backward`](crate::exp2_backward()) multiplies a gradient with, unrounded.
pub fn exp2_slope<E: Element>(x: E) -> E::Exact {
    exp2(x) * E::Exact::from(2.0).ln()
}
