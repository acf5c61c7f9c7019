//! The gradient of softmax.

use super::Real;
use super::softmax::{exact, softmax_of};
use crate::element::Element;

/// [`softmax_backward`](crate::softmax_backward()) of a row, unrounded; `None` where there is nothing to attend to.
///
/// ```
/// use evenkeel::reference::softmax_backward;
/// assert_eq!(softmax_backward(&[3.0f32, 3.0], &[1.0, 0.0]), Some(vec![0.25, -0.25]));
/// ```
pub fn softmax_backward<E: Element>(row: &[E], dy: &[E]) -> Option<Vec<E::Exact>> {
    softmax_backward_of(&exact(row), &exact(dy))
}

/// The gradients of logits, -inf where masked, from those of their softmax. Those of scores are
/// [`logit_slopes`](super::logit_slopes) times as large.
pub fn softmax_backward_of<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>> {
    let y = softmax_of(logits)?;
    let zero = R::from(0.0);
    let masked = |i: usize| logits[i] == R::from(f64::NEG_INFINITY);
    let mean = (0..y.len()).filter(|&i| !masked(i)).fold(zero, |sum, i| sum + y[i] * dy[i]);
    // Two products rather than one of a difference, which may be beyond the type.
    Some((0..y.len()).map(|i| if masked(i) { zero } else { y[i] * dy[i] - y[i] * mean }).collect())
}
