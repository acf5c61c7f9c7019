//! The cross-entropy of a row.

use super::softmax::{Outcome, log_sum, outcome};
use super::{Real, logits};
use crate::element::Element;
use crate::ops::cross_entropy::CrossEntropy;

/// Returns the two terms of a row's [`cross_entropy`](crate::cross_entropy()), before the reduction: the weighted and
/// smoothed entropy, and the z-loss. The option `ignore_index` has no effect here.
///
/// `target` must be a class of the row, and must have a weight if the options have weights.
///
/// ```
/// use evenkeel::{CrossEntropy, reference};
/// let [entropy, z] = reference::cross_entropy(&[3.0f32, 3.0], 1, &CrossEntropy::default().z_loss(0.5));
/// assert_eq!(entropy, std::f64::consts::LN_2);
/// assert_eq!(z, 0.5 * (3.0 + std::f64::consts::LN_2).powi(2));
/// ```
pub fn cross_entropy<E: Element>(row: &[E], target: usize, options: &CrossEntropy<'_>) -> [E::Exact; 2] {
    let real = E::Exact::from;
    let weight = |class: usize| weight::<E::Exact>(options, class);
    let z = logits(row, 1.0, options.softcap, None, None);
    let (max, log_sum) = match outcome(&z) {
        Outcome::Nothing => (real(f64::NEG_INFINITY), real(f64::INFINITY)),
        Outcome::Spoilt => return [real(f64::NAN), real(if options.z_loss == 0.0 { 0.0 } else { f64::NAN })],
        Outcome::Finite { max, at } => (max, log_sum(&z, max, at)),
    };
    let nll = |k: usize| if z[k] == real(f64::NEG_INFINITY) { real(f64::INFINITY) } else { (max - z[k]) + log_sum };
    let smoothing = options.label_smoothing;
    let mut entropy = times(weight(target) * real(1.0 - smoothing), nll(target));
    if smoothing != 0.0 {
        let share = real(smoothing) / real(row.len() as f64);
        for k in 0..row.len() {
            entropy = entropy + times(share * weight(k), nll(k));
        }
    }
    let lse = if max == real(f64::NEG_INFINITY) { max } else { max + log_sum };
    [entropy, times(real(options.z_loss), lse * lse)]
}

/// Returns the weight of a class.
pub(super) fn weight<R: Real>(options: &CrossEntropy<'_>, class: usize) -> R {
    R::from(options.weight.map_or(1.0, |weight| weight.get(class).unwrap_or(f64::NAN)))
}

/// Returns `factor * term`. If the factor is 0, returns 0, even if the term is not finite.
fn times<R: Real>(factor: R, term: R) -> R {
    if factor == R::from(0.0) { factor } else { factor * term }
}
