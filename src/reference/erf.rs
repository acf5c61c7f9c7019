//! The error function.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns erf x, the unrounded result of [`erf`](crate::erf()).
///
/// ```
/// assert_eq!(evenkeel::reference::erf(-10.0f32), -1.0);
/// ```
pub fn erf<E: Element>(x: E) -> E::Exact {
    E::Exact::from_double_double(DoubleDouble::from(x.widen()).erf())
}

/// Returns the unrounded derivative of [`erf`], 2/sqrt(pi) e^(-x^2).
///
/// [`erf_backward`](crate::erf_backward()) multiplies gradients by it.
pub fn erf_slope<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    let two = E::Exact::from(2.0);
    // 2/sqrt(pi) is computed from 2 pi.
    let factor = two * two / (two * E::Exact::from_double_double(DoubleDouble::two_pi())).sqrt();
    factor * (-(x * x)).exp()
}
