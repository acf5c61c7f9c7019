//! The logarithm of a sum of exponentials.

use super::Real;
use super::softmax::{Outcome, exact, log_sum, outcome};
use crate::element::Element;

/// [`logsumexp`](crate::logsumexp()) of a row, unrounded; -inf where there is nothing to attend to.
///
/// ```
/// use evenkeel::reference::logsumexp;
/// assert_eq!(logsumexp(&[1000.0f32, 1000.0]), 1000.0 + std::f64::consts::LN_2);
/// assert_eq!(logsumexp::<f32>(&[]), f64::NEG_INFINITY);
/// ```
pub fn logsumexp<E: Element>(row: &[E]) -> E::Exact {
    logsumexp_of(&exact(row))
}

/// The logarithm of the sum of e^z over logits, -inf where masked; +inf if one is, unless one is NaN.
pub fn logsumexp_of<R: Real>(logits: &[R]) -> R {
    match outcome(logits) {
        Outcome::Nothing => R::from(f64::NEG_INFINITY),
        Outcome::Spoilt if logits.iter().any(|z| z.is_nan()) => R::from(f64::NAN),
        Outcome::Spoilt => R::from(f64::INFINITY),
        Outcome::Finite { max, at } => max + log_sum(logits, max, at),
    }
}
