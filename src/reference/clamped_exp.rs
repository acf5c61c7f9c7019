//! The exponential of a clamped number.

use super::Real;
use crate::element::Element;

/// Returns e^min(max(x, min), max), the unrounded result of [`clamped_exp`](crate::clamped_exp()).
///
/// ```
/// assert_eq!(evenkeel::reference::clamped_exp(7.0f32, -1.0, 1.0), 1f64.exp());
/// ```
pub fn clamped_exp<E: Element>(x: E, min: f64, max: f64) -> E::Exact {
    E::Exact::from(if x.widen().is_nan() { f64::NAN } else { x.widen().clamp(min, max) }).exp()
}

/// Returns the unrounded derivative of [`clamped_exp`]: e^x from `min` to `max`, 0 outside.
pub fn clamped_exp_slope<E: Element>(x: E, min: f64, max: f64) -> E::Exact {
    let x = x.widen();
    if x < min || x > max { E::Exact::from(0.0) } else { E::Exact::from(x).exp() }
}
