//! The gradient of log-softmax, computed from the result of log-softmax.

use super::Real;
use super::softmax::exact;
use crate::element::Element;

/// Returns the unrounded result of [`log_softmax_backward_from_output`](crate::log_softmax_backward_from_output()) for
/// a row, with a scale of 1.
///
/// ```
/// use evenkeel::reference::log_softmax_backward_from_output;
/// assert_eq!(log_softmax_backward_from_output(&[0.0f32, f32::NEG_INFINITY], &[1.0, f32::NAN]), [0.0, 0.0]);
/// ```
pub fn log_softmax_backward_from_output<E: Element>(y: &[E], dy: &[E]) -> Vec<E::Exact> {
    log_softmax_backward_from_output_of(&exact(y), &exact(dy))
}

/// Returns the gradients with respect to logits, given their log-softmax and the gradients with respect to the
/// log-softmax. The log-softmax of a masked logit is -inf. Log-softmax values above 0 count as 0.
pub fn log_softmax_backward_from_output_of<R: Real>(y: &[R], dy: &[R]) -> Vec<R> {
    let (zero, large, half) = (R::from(0.0), R::from(2f64.powi(900)), R::from(2f64.powi(-32)));
    let live = |i: &usize| y[*i] != R::from(f64::NEG_INFINITY);
    // Large gradients are scaled down, so that their sum does not overflow.
    let is_large = (0..y.len()).filter(live).any(|i| dy[i].abs() > large);
    let part = |v: R| if is_large { v * half } else { v };
    let whole = |v: R| if is_large { v / half } else { v };
    let sum = (0..y.len()).filter(live).fold(zero, |sum, i| sum + part(dy[i]));
    let power = |y: R| if y > zero { R::from(1.0) } else { y.exp() };
    (0..y.len()).map(|i| if live(&i) { whole(part(dy[i]) - power(y[i]) * sum) } else { zero }).collect()
}
