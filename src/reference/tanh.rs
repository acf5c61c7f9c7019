//! The hyperbolic tangent.

use super::Real;
use crate::element::Element;

/// Returns tanh x, the unrounded result of [`tanh`](crate::tanh()).
///
/// ```
/// assert_eq!(evenkeel::reference::tanh(0.5f32), 0.5f64.tanh());
/// ```
pub fn tanh<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).tanh()
}

/// Returns the unrounded derivative of [`tanh`], 1 - tanh(x)^2.
///
/// [`tanh_backward`](crate::tanh_backward()) multiplies gradients by it.
pub fn tanh_slope<E: Element>(x: E) -> E::Exact {
    // 1 - tanh^2 = 4 / (e^x + e^-x)^2, computed from e^-|x|, which cannot overflow.
    let t = (-E::Exact::from(x.widen()).abs()).exp();
    let share = E::Exact::from(2.0) * t / (E::Exact::from(1.0) + t * t);
    share * share
}
