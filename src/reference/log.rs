//! The natural logarithm.

use super::Real;
use crate::element::Element;

/// Returns ln x, the unrounded result of [`log`](crate::log()).
///
/// ```
/// assert_eq!(evenkeel::reference::log(0.5f32), -std::f64::consts::LN_2);
/// ```
pub fn log<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).ln()
}

/// Returns the unrounded derivative of [`log`], 1 / x.
///
/// [`log_backward`](crate::log_backward()) multiplies gradients by it.
pub fn log_slope<E: Element>(x: E) -> E::Exact {
    // At a zero of either sign, the derivative is its limit from above.
    match x.widen() {
        below if below < 0.0 => E::Exact::from(f64::NAN),
        0.0 => E::Exact::from(f64::INFINITY),
        x => E::Exact::from(1.0) / E::Exact::from(x),
    }
}
