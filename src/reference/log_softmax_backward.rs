//! The gradient of the logarithm of softmax.

use super::Real;
use super::softmax::{exact, softmax_of};
use crate::element::Element;

/// Returns the unrounded result of [`log_softmax_backward`](crate::log_softmax_backward()) for a row, or `None` if the
/// row is fully masked.
///
/// ```
/// use evenkeel::reference::log_softmax_backward;
/// assert_eq!(log_softmax_backward(&[3.0f32, 3.0], &[1.0, 0.0]), Some(vec![0.5, -0.5]));
/// ```
pub fn log_softmax_backward<E: Element>(row: &[E], dy: &[E]) -> Option<Vec<E::Exact>> {
    log_softmax_backward_of(&exact(row), &exact(dy))
}

/// Returns the gradients with respect to logits, from the gradients with respect to the log-softmax of these logits. A
/// masked logit is -inf.
///
/// Multiply the result by [`logit_derivatives`](super::logit_derivatives) to get the gradients of the scores.
pub fn log_softmax_backward_of<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>> {
    let y = softmax_of(logits)?;
    let (zero, large, half) = (R::from(0.0), R::from(2f64.powi(900)), R::from(2f64.powi(-32)));
    let masked = |i: usize| logits[i] == R::from(f64::NEG_INFINITY);
    // Large gradients are scaled down, so that their sum does not overflow.
    let is_large = (0..y.len()).any(|i| !masked(i) && dy[i].abs() > large);
    let part = |v: R| if is_large { v * half } else { v };
    let sum = (0..y.len()).filter(|&i| !masked(i)).fold(zero, |sum, i| sum + part(dy[i]));
    let whole = |v: R| if is_large { v / half } else { v };
    Some((0..y.len()).map(|i| if masked(i) { zero } else { whole(part(dy[i]) - y[i] * sum) }).collect())
}
