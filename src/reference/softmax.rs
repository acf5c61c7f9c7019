//! Softmax.

use super::Real;
use crate::element::Element;

/// [`softmax`](crate::softmax()) of a row, unrounded; `None` where there is nothing to attend to.
///
/// ```
/// use evenkeel::reference::softmax;
/// assert_eq!(softmax(&[3.0f32, 3.0]), Some(vec![0.5, 0.5]));
/// assert_eq!(softmax(&[f32::NEG_INFINITY; 2]), None);
/// ```
pub fn softmax<E: Element>(row: &[E]) -> Option<Vec<E::Exact>> {
    softmax_of(&exact(row))
}

/// Softmax of logits, -inf where masked.
pub fn softmax_of<R: Real>(logits: &[R]) -> Option<Vec<R>> {
    let max = match outcome(logits) {
        Outcome::Nothing => return None,
        Outcome::Spoilt => return Some(vec![R::from(f64::NAN); logits.len()]),
        Outcome::Finite { max, .. } => max,
    };
    let exps: Vec<R> = logits.iter().map(|&z| (z - max).exp()).collect();
    let sum = exps.iter().fold(R::from(0.0), |sum, &e| sum + e);
    Some(exps.into_iter().map(|e| e / sum).collect())
}

/// What a row of logits comes to, in the softmax family.
pub(super) enum Outcome<R> {
    /// No logit above -inf.
    Nothing,
    /// A NaN, or +inf.
    Spoilt,
    /// The largest logit, and the first index that has it.
    Finite { max: R, at: usize },
}

pub(super) fn outcome<R: Real>(logits: &[R]) -> Outcome<R> {
    let (mut max, mut at) = (R::from(f64::NEG_INFINITY), 0);
    for (i, &z) in logits.iter().enumerate() {
        if z.is_nan() {
            return Outcome::Spoilt;
        }
        if z > max {
            (max, at) = (z, i);
        }
    }
    if max == R::from(f64::INFINITY) {
        Outcome::Spoilt
    } else if max == R::from(f64::NEG_INFINITY) {
        Outcome::Nothing
    } else {
        Outcome::Finite { max, at }
    }
}

/// ln of the sum of e^(z - max). The first largest term is 1; log1p of the others keeps the digits where they are few.
pub(super) fn log_sum<R: Real>(logits: &[R], max: R, at: usize) -> R {
    let mut rest = R::from(0.0);
    for (i, &z) in logits.iter().enumerate() {
        if i != at {
            rest = rest + (z - max).exp();
        }
    }
    rest.ln_1p()
}

pub(super) fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
    row.iter().map(|x| E::Exact::from(x.widen())).collect()
}
