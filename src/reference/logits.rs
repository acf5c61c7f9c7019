//! Conversion of scores to logits.

use super::Real;
use crate::element::Element;

/// Returns the logits of a row of scores under the options of [`Softmax`](crate::Softmax). Applies the scale, then the
/// softcap, then the bias, and rounds to f64 after each step. A logit is -inf if its `keep` is false or its score is
/// -inf.
///
/// `bias` and `keep` have the row's length. Scores that `keep` excludes are not read. If the score is finite, its
/// product with the scale saturates at ±`f64::MAX` instead of overflowing. The sum with a finite bias saturates in the
/// same way.
///
/// ```
/// use evenkeel::reference::{logits, softmax_of};
/// let z = logits(&[1.0f32, 2.0, f32::NAN], 0.5, None, None, Some(&[true, true, false]));
/// assert_eq!(z, [0.5, 1.0, f64::NEG_INFINITY]);
/// assert!(softmax_of(&z).is_some());
/// ```
pub fn logits<E: Element>(
    x: &[E],
    scale: f64,
    softcap: Option<f64>,
    bias: Option<&[f64]>,
    keep: Option<&[bool]>,
) -> Vec<E::Exact> {
    let logit = |i: usize| {
        if keep.is_some_and(|keep| !keep[i]) {
            return f64::NEG_INFINITY;
        }
        let score = x[i].widen();
        let mut z = if score == f64::NEG_INFINITY { score } else { finite_if(score.is_finite(), score * scale) };
        if let Some(cap) = softcap.filter(|_| score != f64::NEG_INFINITY) {
            z = cap * (z / cap).tanh();
        }
        match bias {
            None => z,
            Some(bias) => finite_if(z.is_finite() && bias[i].is_finite(), z + bias[i]),
        }
    };
    (0..x.len()).map(|i| E::Exact::from(logit(i))).collect()
}

/// Returns the unrounded derivative of each logit with respect to its score: the scale, times 1 - tanh^2(z / softcap)
/// if there is a softcap. Here z is the scaled score rounded to f64.
///
/// ```
/// use evenkeel::reference::logit_derivatives;
/// assert_eq!(logit_derivatives(&[0.0f32, 1e30], 0.5, Some(2.0)), [0.5, 0.0]);
/// ```
pub fn logit_derivatives<E: Element>(x: &[E], scale: f64, softcap: Option<f64>) -> Vec<E::Exact> {
    let real = <E::Exact as From<f64>>::from;
    let derivative = |x: &E| match softcap {
        None => real(scale),
        Some(cap) => {
            let score = x.widen();
            let v = finite_if(score.is_finite(), score * scale) / cap;
            // 1 - tanh^2 computed as 1 / cosh^2, which does not cancel.
            let e = (real(-2.0) * real(v.abs())).exp();
            real(4.0) * e / ((real(1.0) + e) * (real(1.0) + e)) * real(scale)
        }
    };
    x.iter().map(derivative).collect()
}

/// Clamps `value` to the finite range of f64 if `finite` is true. Callers pass true if they computed `value` from
/// finite numbers.
fn finite_if(finite: bool, value: f64) -> f64 {
    if finite { value.clamp(f64::MIN, f64::MAX) } else { value }
}
