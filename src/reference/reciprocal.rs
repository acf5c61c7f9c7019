//! The reciprocal.

use crate::element::Element;

/// 1 / x of [`reciprocal`](crate::reciprocal()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::reciprocal(-4.0f32), -0.25);
/// ```
pub fn reciprocal<E: Element>(x: E) -> E::Exact {
    E::Exact::from(1.0) / E::Exact::from(x.widen())
}

/// The slope of [`reciprocal`], -1 / x^2, which [`reciprocal_backward`](crate::reciprocal_backward()) multiplies a gradient with, unrounded.
pub fn reciprocal_slope<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    E::Exact::from(-1.0) / (x * x)
}
