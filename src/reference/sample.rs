//! What a sampler may draw, by sorting the whole vocabulary.

use super::{DoubleDouble, Real};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops::sample::SamplerConfig;
use std::cmp::Ordering;

/// The tokens that the filters leave, and their probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Support {
    /// In increasing order.
    pub tokens: Vec<u32>,
    /// In the same order; they add to 1.
    pub probs: Vec<f64>,
}

/// What [`Sampler`](crate::Sampler) may draw from a row, in f64.
///
/// Tokens are ordered by logit, the highest first, and among equals by index. Top-k keeps the first k that are not
/// masked; top-p of these the shortest prefix whose mass is at least p of theirs; min-p of these the tokens at least
/// min_p times as probable as the first. The configuration is not checked.
///
/// # Errors
/// [`Error::EmptyInput`] for no tokens, [`Error::NonFiniteInput`] for a NaN, [`Error::EmptySupport`] for nothing but
/// -inf, the row being number 0.
///
/// ```
/// use evenkeel::{SamplerConfig, reference};
/// let support = reference::sample(&[1.0f32, 3.0, 1.0, 2.0], &SamplerConfig::default().top_k(3))?;
/// assert_eq!(support.tokens, [0, 1, 3]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn sample<E: Element>(logits: &[E], config: &SamplerConfig) -> Result<Support> {
    const OP: &str = "sample";
    let logits: Vec<f64> = logits.iter().map(|z| z.widen()).collect();
    if logits.is_empty() {
        return Err(Error::EmptyInput { op: OP });
    }
    if let Some(index) = logits.iter().position(|z| z.is_nan()) {
        return Err(Error::NonFiniteInput { op: OP, row: 0, index, value: f64::NAN });
    }
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return Err(Error::EmptySupport { op: OP, row: 0, vocabulary: logits.len() });
    }
    let mut order: Vec<usize> = (0..logits.len()).filter(|&i| logits[i] > f64::NEG_INFINITY).collect();
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap_or(Ordering::Equal).then(a.cmp(&b)));
    if max == f64::INFINITY {
        order.retain(|&i| logits[i] == max);
        return Ok(support(order, |_| 1.0));
    }
    if config.temperature == 0.0 {
        return Ok(support(vec![order[0]], |_| 1.0));
    }
    let mass = |i: usize| ((logits[i] - max) / config.temperature).exp();
    if let Some(k) = config.top_k {
        order.truncate(k);
    }
    // p = 1 asks for all of them, which a sum in f64 would seem to reach early.
    if let Some(p) = config.top_p.filter(|p| *p < 1.0) {
        let total: f64 = order.iter().map(|&i| mass(i)).sum();
        let mut sum = 0.0;
        let reached = order.iter().position(|&i| {
            sum += mass(i);
            sum >= p * total
        });
        order.truncate(reached.map_or(order.len(), |last| last + 1));
    }
    if let Some(p) = config.min_p {
        order.retain(|&i| mass(i) >= p);
    }
    Ok(support(order, mass))
}

/// The kept tokens by index, with probabilities in proportion to their masses.
fn support(mut kept: Vec<usize>, mass: impl Fn(usize) -> f64) -> Support {
    kept.sort_unstable();
    // Many equal masses are all rounded the same way by a sum in f64.
    let sum = |sum, &i: &usize| sum + DoubleDouble::from(mass(i));
    let total = kept.iter().fold(DoubleDouble::from(0.0), sum).to_f64();
    Support { tokens: kept.iter().map(|&i| i as u32).collect(), probs: kept.iter().map(|&i| mass(i) / total).collect() }
}
