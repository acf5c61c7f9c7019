//! The logarithm of a sum of exponentials.

use super::Real;
use super::softmax::{Outcome, exact, log_sum, outcome};
use crate::element::Element;

/// Returns the unrounded result of [`logsumexp`](crate::logsumexp()) for a row. The result is -inf if the row is fully
/// masked.
///
/// ```
/// use evenkeel::reference::logsumexp;
/// assert_eq!(logsumexp(&[1000.0f32, 1000.0]), 1000.0 + std::f64::consts::LN_2);
/// assert_eq!(logsumexp::<f32>(&[]), f64::NEG_INFINITY);
/// ```
pub fn logsumexp<E: Element>(row: &[E]) -> E::Exact {
    logsumexp_of(&exact(row))
}

/// Returns the logarithm of the sum of e^z over all logits z. A masked logit is -inf. If a logit is NaN, the result is
/// NaN. Otherwise, if a logit is +inf, the result is +inf.
pub fn logsumexp_of<R: Real>(logits: &[R]) -> R {
    match outcome(logits) {
        Outcome::Nothing => R::from(f64::NEG_INFINITY),
        Outcome::Spoilt if logits.iter().any(|z| z.is_nan()) => R::from(f64::NAN),
        Outcome::Spoilt => R::from(f64::INFINITY),
        Outcome::Finite { max, at } => max + log_sum(logits, max, at),
    }
}
