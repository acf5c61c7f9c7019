//! The gradient of the cross-entropy of a row.

use super::cross_entropy::weight;
use super::softmax::{Outcome, log_sum, outcome};
use super::{Real, logits};
use crate::element::Element;
use crate::ops::cross_entropy::CrossEntropy;

/// Returns the gradient of a row's [`cross_entropy`](crate::cross_entropy()) with respect to its logits. Also returns
/// the magnitude of the largest term of each logit's gradient. Terms that contain the same probability count as one
/// term, because they share the error of this probability. The magnitude of this term is the sum of their magnitudes.
///
/// The differentiated loss is `factors[0]` times the row's entropy plus `factors[1]` times its z-loss.
///
/// ```
/// use evenkeel::{CrossEntropy, reference};
/// let (dz, _) = reference::cross_entropy_backward(&[0.0f32, 0.0], 1, &CrossEntropy::default(), [1.0, 1.0]);
/// assert_eq!(dz, [0.5, -0.5]);
/// ```
pub fn cross_entropy_backward<E: Element>(
    row: &[E],
    target: usize,
    options: &CrossEntropy<'_>,
    factors: [f64; 2],
) -> (Vec<E::Exact>, Vec<f64>) {
    let real = E::Exact::from;
    let weight = |class: usize| weight::<E::Exact>(options, class);
    let nothing = |value: f64| (vec![real(value); row.len()], vec![0.0; row.len()]);
    let z = logits(row, 1.0, options.softcap, None, None);
    let (max, log_sum) = match outcome(&z) {
        Outcome::Nothing => return nothing(0.0),
        Outcome::Spoilt => return nothing(f64::NAN),
        Outcome::Finite { max, at } => (max, log_sum(&z, max, at)),
    };
    let exps: Vec<E::Exact> = z.iter().map(|&z| (z - max).exp()).collect();
    let add = |sum: E::Exact, &e: &E::Exact| sum + e;
    let sum = exps.iter().fold(real(0.0), add);
    // Computes 1 - p without a subtraction, where p is the probability of the target.
    let others = exps[..target].iter().chain(&exps[target + 1..]).fold(real(0.0), add) / sum;

    let smoothing = real(options.label_smoothing);
    let weights = (0..row.len()).fold(real(0.0), |sum, k| sum + weight(k));
    let a = real(factors[0]) * weight(target) * (real(1.0) - smoothing);
    let b = real(factors[0]) * smoothing / real(row.len() as f64);
    let c = real(2.0) * real(factors[1]) * real(options.z_loss) * (max + log_sum);
    let gradient = |j: usize| {
        let p = exps[j] / sum;
        let (of_p, by_others) = if j == target { (real(0.0), -(a * others)) } else { (a, real(0.0)) };
        let by_p = [of_p, b * weights, c].map(|factor| factor * p);
        let smoothed = -(b * weight(j));
        let derivative = match options.softcap {
            None => real(1.0),
            Some(cap) => {
                let t = (real(-2.0) * (real(row[j].widen()) / real(cap)).abs()).exp();
                real(4.0) * t / ((real(1.0) + t) * (real(1.0) + t))
            }
        };
        let sum = |terms: [E::Exact; 3]| terms.into_iter().fold(real(0.0), |sum, term| sum + term);
        let sizes = [sum(by_p.map(|term| term.abs())), by_others, smoothed];
        let largest = sizes.iter().map(|&size| (size * derivative).abs().to_f64()).fold(0.0, f64::max);
        (sum([sum(by_p), by_others, smoothed]) * derivative, largest)
    };
    (0..row.len()).map(gradient).unzip()
}
