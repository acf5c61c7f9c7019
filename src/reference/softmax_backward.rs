//! The gradient of softmax.

use super::Real;
use super::softmax::{exact, softmax_of};
use crate::element::Element;

/// Returns the unrounded result of [`softmax_backward`](crate::softmax_backward()) for a row, or `None` if the row is
/// fully masked.
///
/// ```
/// use evenkeel::reference::softmax_backward;
/// assert_eq!(softmax_backward(&[3.0f32, 3.0], &[1.0, 0.0]), Some(vec![0.25, -0.25]));
/// ```
pub fn softmax_backward<E: Element>(row: &[E], dy: &[E]) -> Option<Vec<E::Exact>> {
    softmax_backward_of(&exact(row), &exact(dy))
}

/// Returns the gradients with respect to logits, from the gradients with respect to the softmax of these logits. A
/// masked logit is -inf.
///
/// Multiply the result by [`logit_derivatives`](super::logit_derivatives) to get the gradients of the scores.
pub fn softmax_backward_of<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>> {
    let y = softmax_of(logits)?;
    let zero = R::from(0.0);
    let masked = |i: usize| logits[i] == R::from(f64::NEG_INFINITY);
    let mean = (0..y.len()).filter(|&i| !masked(i)).fold(zero, |sum, i| sum + y[i] * dy[i]);
    // Computes `y * dy - y * mean` instead of `y * (dy - mean)`, because `dy - mean` may overflow.
    Some((0..y.len()).map(|i| if masked(i) { zero } else { y[i] * dy[i] - y[i] * mean }).collect())
}
