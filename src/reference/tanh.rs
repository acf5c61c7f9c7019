//! The hyperbolic tangent.

use super::Real;
use crate::element::Element;

/// tanh x of [`tanh`](crate::tanh()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::tanh(0.5f32), 0.5f64.tanh());
/// ```
pub fn tanh<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).tanh()
}
