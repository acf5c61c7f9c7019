//! The logarithm of softmax.

use super::Real;
use super::softmax::{Outcome, exact, log_sum, outcome};
use crate::element::Element;

/// Returns the unrounded result of [`log_softmax`](crate::log_softmax()) for a row, or `None` if the row is fully
/// masked.
///
/// ```
/// use evenkeel::reference::log_softmax;
/// let y = log_softmax(&[1000.0f32, 0.0]).unwrap_or_default();
/// assert_eq!(y, [-0.0, -1000.0]);
/// ```
pub fn log_softmax<E: Element>(row: &[E]) -> Option<Vec<E::Exact>> {
    log_softmax_of(&exact(row))
}

/// Returns the log-softmax of logits, or `None` if all logits are masked. A masked logit is -inf.
pub fn log_softmax_of<R: Real>(logits: &[R]) -> Option<Vec<R>> {
    match outcome(logits) {
        Outcome::Nothing => None,
        Outcome::Spoilt => Some(vec![R::from(f64::NAN); logits.len()]),
        Outcome::Finite { max, at } => {
            let log_sum = log_sum(logits, max, at);
            Some(logits.iter().map(|&z| (z - max) - log_sum).collect())
        }
    }
}
