//! The Gaussian error linear unit.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns x (1 + erf(x / sqrt(2))) / 2, the unrounded result of [`gelu`](crate::gelu()).
///
/// ```
/// assert_eq!(evenkeel::reference::gelu(100.0f32), 100.0);
/// ```
pub fn gelu<E: Element>(x: E) -> E::Exact {
    let x = DoubleDouble::from(x.widen());
    // Returns the limit, because the product would be -inf * 0.
    if x == DoubleDouble::from(f64::NEG_INFINITY) {
        return E::Exact::from(-0.0);
    }
    E::Exact::from_double_double(x * x.normal_cdf())
}

/// Returns the unrounded derivative of [`gelu`], the normal distribution function plus x times its density.
///
/// [`gelu_backward`](crate::gelu_backward()) multiplies gradients by it.
pub fn gelu_slope<E: Element>(x: E) -> E::Exact {
    // Returns the limits, because the product would be an infinity times 0.
    if x.widen().is_infinite() {
        return E::Exact::from(if x.widen() > 0.0 { 1.0 } else { 0.0 });
    }
    let x = DoubleDouble::from(x.widen());
    E::Exact::from_double_double(x.normal_cdf() + x * x.normal_density())
}
