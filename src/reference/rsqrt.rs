//! The reciprocal of the square root.

use super::Real;
use crate::element::Element;

/// Returns 1 / sqrt(x), the unrounded result of [`rsqrt`](crate::rsqrt()).
///
/// ```
/// assert_eq!(evenkeel::reference::rsqrt(4.0f32), 0.5);
/// ```
pub fn rsqrt<E: Element>(x: E) -> E::Exact {
    E::Exact::from(1.0) / E::Exact::from(x.widen()).sqrt()
}

/// Returns the unrounded derivative of [`rsqrt`], -1/2 x^(-3/2).
///
/// [`rsqrt_backward`](crate::rsqrt_backward()) multiplies gradients by it.
pub fn rsqrt_slope<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    E::Exact::from(-0.5) / (x * x.sqrt())
}
