//! The natural logarithm.

use super::Real;
use crate::element::Element;

/// ln x of [`log`](crate::log()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::log(0.5f32), -std::f64::consts::LN_2);
/// ```
pub fn log<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).ln()
}
