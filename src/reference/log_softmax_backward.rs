//! The gradient of the logarithm of softmax.

use super::Real;
use super::softmax::{exact, softmax_of};
use crate::element::Element;

/// [`log_softmax_backward`](crate::log_softmax_backward()) of a row, unrounded; `None` where there is nothing to
/// attend to.
///
/// ```
/// use evenkeel::reference::log_softmax_backward;
/// assert_eq!(log_softmax_backward(&[3.0f32, 3.0], &[1.0, 0.0]), Some(vec![0.5, -0.5]));
/// ```
pub fn log_softmax_backward<E: Element>(row: &[E], dy: &[E]) -> Option<Vec<E::Exact>> {
    log_softmax_backward_of(&exact(row), &exact(dy))
}

/// The gradients of logits, -inf where masked, from those of their log-softmax. Those of scores are
/// [`logit_slopes`](super::logit_slopes) times as large.
pub fn log_softmax_backward_of<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>> {
    let y = softmax_of(logits)?;
    let (zero, large, half) = (R::from(0.0), R::from(2f64.powi(900)), R::from(2f64.powi(-32)));
    let masked = |i: usize| logits[i] == R::from(f64::NEG_INFINITY);
    // Large gradients are added as small parts of them, lest their sum leave the type.
    let is_large = (0..y.len()).any(|i| !masked(i) && dy[i].abs() > large);
    let part = |v: R| if is_large { v * half } else { v };
    let sum = (0..y.len()).filter(|&i| !masked(i)).fold(zero, |sum, i| sum + part(dy[i]));
    let whole = |v: R| if is_large { v / half } else { v };
    Some((0..y.len()).map(|i| if masked(i) { zero } else { whole(part(dy[i]) - y[i] * sum) }).collect())
}
