//! The gradient of softmax, computed from the result of softmax.

use super::Real;
use super::softmax::exact;
use crate::element::Element;

/// Returns the unrounded result of [`softmax_backward_from_output`](crate::softmax_backward_from_output()) for a row,
/// with a scale of 1.
///
/// ```
/// use evenkeel::reference::softmax_backward_from_output;
/// assert_eq!(softmax_backward_from_output(&[0.5f32, 0.5], &[1.0, 0.0]), [0.25, -0.25]);
/// ```
pub fn softmax_backward_from_output<E: Element>(y: &[E], dy: &[E]) -> Vec<E::Exact> {
    softmax_backward_from_output_of(&exact(y), &exact(dy))
}

/// Returns the gradients with respect to logits, given their softmax and the gradients with respect to the softmax. The
/// softmax of a masked logit is 0.
pub fn softmax_backward_from_output_of<R: Real>(y: &[R], dy: &[R]) -> Vec<R> {
    let zero = R::from(0.0);
    let live = |i: &usize| y[*i] != zero;
    let mean = (0..y.len()).filter(live).fold(zero, |sum, i| sum + y[i] * dy[i]);
    // Computes `y * dy - y * mean` instead of `y * (dy - mean)`, because `dy - mean` may overflow.
    (0..y.len()).map(|i| if live(&i) { y[i] * dy[i] - y[i] * mean } else { zero }).collect()
}
