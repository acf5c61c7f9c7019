//! The logarithm of 1 + x.

use super::Real;
use crate::element::Element;

/// Returns ln(1 + x), the unrounded result of [`log1p`](crate::log1p()).
///
/// ```
/// assert_eq!(evenkeel::reference::log1p(0.5f32), 0.5f64.ln_1p());
/// ```
pub fn log1p<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).ln_1p()
}

/// Returns the unrounded derivative of [`log1p`], 1 / (1 + x).
///
/// [`log1p_backward`](crate::log1p_backward()) multiplies gradients by it.
pub fn log1p_slope<E: Element>(x: E) -> E::Exact {
    let d = E::Exact::from(1.0) + E::Exact::from(x.widen());
    if d < E::Exact::from(0.0) { E::Exact::from(f64::NAN) } else { E::Exact::from(1.0) / d }
}
