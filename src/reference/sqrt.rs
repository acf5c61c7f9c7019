//! The square root.

use super::Real;
use crate::element::Element;

/// Returns sqrt(x), the unrounded result of [`sqrt`](crate::sqrt()).
///
/// ```
/// assert_eq!(evenkeel::reference::sqrt(2.0f32), 2f64.sqrt());
/// ```
pub fn sqrt<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).sqrt()
}

/// Returns the unrounded derivative of [`sqrt`], 1 / (2 sqrt x).
///
/// [`sqrt_backward`](crate::sqrt_backward()) multiplies gradients by it.
pub fn sqrt_slope<E: Element>(x: E) -> E::Exact {
    // At a zero of either sign, the derivative is its limit from above.
    match x.widen() {
        0.0 => E::Exact::from(f64::INFINITY),
        x => E::Exact::from(0.5) / E::Exact::from(x).sqrt(),
    }
}
