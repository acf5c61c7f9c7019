//! The softmax of a row.

use super::Real;
use crate::element::Element;

/// Returns the unrounded result of [`softmax`](crate::softmax()) for a row, or `None` if the row is fully masked.
///
/// ```
/// use evenkeel::reference::softmax;
/// assert_eq!(softmax(&[3.0f32, 3.0]), Some(vec![0.5, 0.5]));
/// assert_eq!(softmax(&[f32::NEG_INFINITY; 2]), None);
/// ```
pub fn softmax<E: Element>(row: &[E]) -> Option<Vec<E::Exact>> {
    softmax_of(&exact(row))
}

/// Returns the softmax of logits, or `None` if all logits are masked. A masked logit is -inf.
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

/// Classification of a row of logits, shared by the softmax family.
pub(super) enum Outcome<R> {
    /// The row is empty or fully masked: no logit is above -inf.
    Nothing,
    /// The row has a NaN or +inf.
    Spoilt,
    /// The row has a finite maximum; `at` is the index of its first occurrence.
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

/// Returns the logarithm of the sum of e^(z - max). The first maximum, at index `at`, contributes exactly 1. So the
/// result is log1p of the sum of the other terms. This is accurate even if the other terms are small.
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
