//! The Kullback-Leibler divergence KL(targets || softmax) of a row.

use super::softmax::{Outcome, log_sum, outcome};
use super::{Real, logits};
use crate::element::Element;

/// Returns the probability that a target represents, and the logarithm of the probability.
fn probability<R: Real>(target: f64, log_target: bool) -> (R, R) {
    let target = R::from(target);
    if log_target { (target.exp(), target) } else { (target, target.ln()) }
}

/// Returns the unrounded [`kl_div`](crate::kl_div()) of a row, and the sum of the magnitudes of the loss's terms.
///
/// ```
/// use evenkeel::reference;
/// assert_eq!(reference::kl_div(&[3.0f32, 3.0], &[1.0, 0.0], false, 1.0).0, std::f64::consts::LN_2);
/// ```
pub fn kl_div<E: Element>(row: &[E], targets: &[f64], log_target: bool, scale: f64) -> (E::Exact, f64) {
    let real = E::Exact::from;
    let z = logits(row, scale, None, None, None);
    let (max, log_sum) = match outcome(&z) {
        Outcome::Nothing => (real(f64::NEG_INFINITY), real(0.0)),
        Outcome::Spoilt => return (real(f64::NAN), 0.0),
        Outcome::Finite { max, at } => (max, log_sum(&z, max, at)),
    };
    let (mut sum, mut magnitudes) = (real(0.0), 0.0);
    for (&z, &target) in z.iter().zip(targets) {
        let (p, ln_p) = probability::<E::Exact>(target, log_target);
        if p == real(0.0) {
            continue;
        }
        let minus_ln_q = if z == real(f64::NEG_INFINITY) { real(f64::INFINITY) } else { (max - z) + log_sum };
        sum = sum + p * (ln_p + minus_ln_q);
        magnitudes += (p * ln_p).abs().to_f64() + (p * minus_ln_q).abs().to_f64();
    }
    (sum, magnitudes)
}

/// Returns the unrounded loss of each element under [`KlDiv::log_probs`](crate::KlDiv::log_probs), where `x` holds
/// logarithms of probabilities. Each loss has two terms. Also returns the magnitude of the larger term of each loss.
///
/// ```
/// use evenkeel::reference;
/// assert_eq!(reference::kl_div_log_probs(&[-1.0f32, 0.0], &[1.0, 0.0], false).0, [1.0, 0.0]);
/// ```
pub fn kl_div_log_probs<E: Element>(x: &[E], targets: &[f64], log_target: bool) -> (Vec<E::Exact>, Vec<f64>) {
    let loss = |(&x, &target): (&E, &f64)| {
        let (p, ln_p) = probability::<E::Exact>(target, log_target);
        let x = E::Exact::from(x.widen());
        if x.to_f64().is_nan() {
            return (x, 0.0);
        }
        if p == E::Exact::from(0.0) {
            return (p, 0.0);
        }
        (p * (ln_p - x), (p * ln_p).abs().to_f64().max((p * x).abs().to_f64()))
    };
    x.iter().zip(targets).map(loss).unzip()
}

/// Returns the gradient of [`kl_div`] with respect to the elements of a row. Each element's gradient has two terms.
/// Also returns the magnitude of the larger term of each gradient.
///
/// ```
/// use evenkeel::reference;
/// assert_eq!(reference::kl_div_backward(&[3.0f32, 3.0], &[1.0, 0.0], false, 1.0).0, [-0.5, 0.5]);
/// ```
pub fn kl_div_backward<E: Element>(
    row: &[E],
    targets: &[f64],
    log_target: bool,
    scale: f64,
) -> (Vec<E::Exact>, Vec<f64>) {
    let real = E::Exact::from;
    let z = logits(row, scale, None, None, None);
    let max = match outcome(&z) {
        Outcome::Nothing => return (vec![real(0.0); row.len()], vec![0.0; row.len()]),
        Outcome::Spoilt => return (vec![real(f64::NAN); row.len()], vec![0.0; row.len()]),
        Outcome::Finite { max, .. } => max,
    };
    let p: Vec<E::Exact> = targets.iter().map(|&target| probability(target, log_target).0).collect();
    let exps: Vec<E::Exact> = z.iter().map(|&z| (z - max).exp()).collect();
    let add = |sum: E::Exact, &term: &E::Exact| sum + term;
    let (sum, p_sum) = (exps.iter().fold(real(0.0), add), p.iter().fold(real(0.0), add));
    let gradient = |j: usize| {
        let terms = [exps[j] * p_sum / sum * real(scale), p[j] * real(scale)];
        let largest = terms.map(|term| term.abs().to_f64()).into_iter().fold(0.0, f64::max);
        // Adds all values except the j-th, because the total minus the j-th could cancel.
        let without = |of: &[E::Exact]| of[..j].iter().chain(&of[j + 1..]).fold(real(0.0), add);
        let difference = (exps[j] * without(&p) - p[j] * without(&exps)) / sum;
        (difference * real(scale), largest)
    };
    (0..row.len()).map(gradient).unzip()
}
