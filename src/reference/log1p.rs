//! The logarithm of one more.

use super::Real;
use crate::element::Element;

/// ln(1 + x) of [`log1p`](crate::log1p()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::log1p(0.5f32), 0.5f64.ln_1p());
/// ```
pub fn log1p<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).ln_1p()
}
