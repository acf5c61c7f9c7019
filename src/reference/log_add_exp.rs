//! The logarithm of the sum of two exponentials.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns ln(e^a + e^b), the unrounded result of [`log_add_exp`](crate::log_add_exp()).
///
/// ```
/// assert_eq!(evenkeel::reference::log_add_exp(1000.0f32, -1000.0), 1000.0);
/// ```
pub fn log_add_exp<E: Element>(a: E, b: E) -> E::Exact {
    let (a, b) = (a.widen(), b.widen());
    // Returns equal infinities unchanged, because their difference is NaN.
    if a == b && a.is_infinite() {
        return E::Exact::from(a);
    }
    let [a, b] = [a, b].map(DoubleDouble::from);
    let largest = if a > b { a } else { b };
    // A NaN in either operand reaches the result through the difference.
    E::Exact::from_double_double(largest + (-(a - b).abs()).exp().ln_1p())
}
