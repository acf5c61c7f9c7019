//! The tanh approximation of the Gaussian error linear unit.

use super::{DoubleDouble, Real, sigmoid_of};
use crate::element::Element;

/// Returns x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, the unrounded result of [`gelu_tanh`](crate::gelu_tanh()).
///
/// ```
/// assert_eq!(evenkeel::reference::gelu_tanh(100.0f32), 100.0);
/// ```
pub fn gelu_tanh<E: Element>(x: E) -> E::Exact {
    let x = DoubleDouble::from(x.widen());
    if x == DoubleDouble::from(f64::NEG_INFINITY) {
        return E::Exact::from(-0.0);
    }
    // (1 + tanh z) / 2 is the logistic function of 2z, which does not cancel.
    let cubic = DoubleDouble::from(44_715.0) / DoubleDouble::from(1_000_000.0);
    let slope = DoubleDouble::from(4.0) / DoubleDouble::two_pi().sqrt();
    E::Exact::from_double_double(x * sigmoid_of(slope * (x + cubic * x * x * x)))
}

/// Returns the unrounded derivative of [`gelu_tanh`], s + x z' s (1 - s) with s = 1 / (1 + e^-z) and z = 2 sqrt(2/pi)
/// (x + 0.044715 x^3).
///
/// [`gelu_tanh_backward`](crate::gelu_tanh_backward()) multiplies gradients by it.
pub fn gelu_tanh_slope<E: Element>(x: E) -> E::Exact {
    if x.widen().is_infinite() {
        return E::Exact::from(if x.widen() > 0.0 { 1.0 } else { 0.0 });
    }
    let x = DoubleDouble::from(x.widen());
    let cubic = DoubleDouble::from(44_715.0) / DoubleDouble::from(1_000_000.0);
    let slope = DoubleDouble::from(4.0) / DoubleDouble::two_pi().sqrt();
    let z = slope * (x + cubic * x * x * x);
    let of_z = slope * (DoubleDouble::from(1.0) + DoubleDouble::from(3.0) * cubic * x * x);
    E::Exact::from_double_double(sigmoid_of(z) + x * of_z * sigmoid_of(z) * sigmoid_of(-z))
}
