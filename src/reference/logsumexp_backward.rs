//! The gradient of the logarithm of a sum of exponentials.

use super::Real;
use super::softmax::{exact, softmax_of};
use crate::element::Element;

/// Returns the unrounded result of [`logsumexp_backward`](crate::logsumexp_backward()) for a row, or `None` if the row
/// is fully masked.
///
/// ```
/// use evenkeel::reference::logsumexp_backward;
/// assert_eq!(logsumexp_backward(&[3.0f32, 3.0], 3.0), Some(vec![1.5, 1.5]));
/// ```
pub fn logsumexp_backward<E: Element>(row: &[E], dy: E) -> Option<Vec<E::Exact>> {
    logsumexp_backward_of(&exact(row), E::Exact::from(dy.widen()))
}

/// Returns the gradients with respect to logits, from the gradient with respect to the log-sum-exp of these logits. A
/// masked logit is -inf.
///
/// Multiply the result by [`logit_derivatives`](super::logit_derivatives) to get the gradients of the scores.
pub fn logsumexp_backward_of<R: Real>(logits: &[R], dy: R) -> Option<Vec<R>> {
    let of = |(&y, &z): (&R, &R)| if z == R::from(f64::NEG_INFINITY) { R::from(0.0) } else { y * dy };
    Some(softmax_of(logits)?.iter().zip(logits).map(of).collect())
}
