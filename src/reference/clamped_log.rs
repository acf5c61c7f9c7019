//! The logarithm of a number with a positive lower limit.

use super::Real;
use crate::element::Element;

/// Returns ln max(x, floor), the unrounded result of [`clamped_log`](crate::clamped_log()).
///
/// ```
/// assert_eq!(evenkeel::reference::clamped_log(-7.0f32, 0.5), 0.5f64.ln());
/// ```
pub fn clamped_log<E: Element>(x: E, floor: f64) -> E::Exact {
    E::Exact::from(if x.widen() < floor { floor } else { x.widen() }).ln()
}

/// Returns the unrounded derivative of [`clamped_log`]: 1 / x from `floor` on, 0 below.
pub fn clamped_log_slope<E: Element>(x: E, floor: f64) -> E::Exact {
    let x = x.widen();
    if x < floor { E::Exact::from(0.0) } else { E::Exact::from(1.0) / E::Exact::from(x) }
}
