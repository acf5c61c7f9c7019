//! Binary cross-entropy of one logit.

use super::{sigmoid_of, softplus_of};
use crate::element::Element;

/// Returns the unrounded [`bce_with_logits`](crate::bce_with_logits()) of one logit with weight 1. `pos_weight`
/// multiplies the term `target * softplus(-x)`.
///
/// ```
/// assert_eq!(evenkeel::reference::bce_with_logits(0.0f32, 0.25, 1.0), std::f64::consts::LN_2);
/// ```
pub fn bce_with_logits<E: Element>(x: E, target: f64, pos_weight: f64) -> E::Exact {
    let real = E::Exact::from;
    let x = real(x.widen());
    let term = |factor: E::Exact, x: E::Exact| if factor == real(0.0) { factor } else { factor * softplus_of(x) };
    term(real(pos_weight) * real(target), -x) + term(real(1.0) - real(target), x)
}

/// Returns the gradient of [`bce_with_logits`] with respect to the logit, as two terms. The gradient is their sum.
///
/// ```
/// assert_eq!(evenkeel::reference::bce_with_logits_backward(0.0f32, 0.25, 2.0), [0.375, -0.25]);
/// ```
pub fn bce_with_logits_backward<E: Element>(x: E, target: f64, pos_weight: f64) -> [E::Exact; 2] {
    let real = E::Exact::from;
    let x = real(x.widen());
    [(real(1.0) - real(target)) * sigmoid_of(x), -(real(pos_weight) * real(target) * sigmoid_of(-x))]
}
