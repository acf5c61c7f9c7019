//! The binary logarithm.

use super::Real;
use crate::element::Element;

/// Returns log2 x, the unrounded result of [`log2`](crate::log2()).
///
/// ```
/// assert_eq!(evenkeel::reference::log2(0.125f32), -3.0);
/// ```
pub fn log2<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).log2()
}

/// Returns the unrounded derivative of [`log2`], 1 / (x ln 2).
///
/// [`log2_backward`](crate::log2_backward()) multiplies gradients by it.
pub fn log2_slope<E: Element>(x: E) -> E::Exact {
    // At a zero of either sign, the derivative is its limit from above.
    match x.widen() {
        below if below < 0.0 => E::Exact::from(f64::NAN),
        0.0 => E::Exact::from(f64::INFINITY),
        x => E::Exact::from(1.0) / (E::Exact::from(x) * E::Exact::from(2.0).ln()),
    }
}
