//! The error function.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// erf x of [`erf`](crate::erf()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::erf(-10.0f32), -1.0);
/// ```
pub fn erf<E: Element>(x: E) -> E::Exact {
    E::Exact::from_double_double(DoubleDouble::from(x.widen()).erf())
}
