//! The reciprocal.

use crate::element::Element;

/// Returns 1 / x, the unrounded result of [`reciprocal`](crate::reciprocal()).
///
/// ```
/// assert_eq!(evenkeel::reference::reciprocal(-4.0f32), -0.25);
/// ```
pub fn reciprocal<E: Element>(x: E) -> E::Exact {
    E::Exact::from(1.0) / E::Exact::from(x.widen())
}

/// Returns the unrounded derivative of [`reciprocal`], -1 / x^2.
///
/// [`reciprocal_backward`](crate::reciprocal_backward()) multiplies gradients by it.
pub fn reciprocal_slope<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    E::Exact::from(-1.0) / (x * x)
}
