//! The reciprocal of the square root.

use super::Real;
use crate::element::Element;

/// 1 / sqrt(x) of [`rsqrt`](crate::rsqrt()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::rsqrt(4.0f32), 0.5);
/// ```
pub fn rsqrt<E: Element>(x: E) -> E::Exact {
    E::Exact::from(1.0) / E::Exact::from(x.widen()).sqrt()
}

/// The slope of [`rsqrt`], -1/2 x^(-3/2), which [`rsqrt_backward`](crate::rsqrt_backward()) multiplies a gradient with, unrounded.
pub fn rsqrt_slope<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    E::Exact::from(-0.5) / (x * x.sqrt())
}
