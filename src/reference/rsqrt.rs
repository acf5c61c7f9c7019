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
