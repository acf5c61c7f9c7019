//! The square root.

use super::Real;
use crate::element::Element;

/// sqrt(x) of [`sqrt`](crate::sqrt()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::sqrt(2.0f32), 2f64.sqrt());
/// ```
pub fn sqrt<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).sqrt()
}
