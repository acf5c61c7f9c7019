//! Lists of tokens, and operations on them that several engines share.

use crate::ops::sample::SamplerConfig;
use crate::real::{DoubleDouble, Real};
use std::cmp::Ordering;

/// List of tokens, each with its index and its logit. If an engine's function `keep` returned the list, the logits are
/// already divided by the temperature.
pub type Tokens = Vec<(usize, f64)>;

pub fn largest(tokens: &Tokens) -> f64 {
    tokens.iter().map(|(_, z)| *z).fold(f64::NEG_INFINITY, f64::max)
}

/// Returns the softmax of the tokens' logits, in the order of the tokens. The terms are added in double-double, because
/// in an f64 sum of many equal terms all rounding errors may have the same sign.
pub fn softmax(tokens: &Tokens) -> Vec<f64> {
    let max = largest(tokens);
    let masses: Vec<f64> = tokens.iter().map(|(_, z)| (z - max).exp()).collect();
    let total = masses.iter().fold(DoubleDouble::from(0.0), |sum, mass| sum + DoubleDouble::from(*mass)).to_f64();
    masses.into_iter().map(|mass| mass / total).collect()
}

/// Returns the entropy in nats. Tokens with a probability of 0 contribute nothing.
pub fn entropy(probs: &[f64]) -> f64 {
    -probs.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

/// Sorts tokens by logit, the largest first. The sort is stable.
pub fn sort_descending(tokens: &mut Tokens) {
    tokens.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
}

/// Keeps only the first token with the largest logit.
pub fn greedy(tokens: Tokens) -> Tokens {
    let max = largest(&tokens);
    tokens.into_iter().find(|(_, z)| *z == max).into_iter().collect()
}

/// Subtracts the largest logit from all logits, and divides the differences by the temperature. The subtraction does
/// not change the probabilities, and prevents overflow to +inf.
pub fn heat(tokens: &mut Tokens, temperature: f64) {
    let max = largest(tokens);
    tokens.iter_mut().for_each(|(_, z)| *z = (*z - max) / temperature);
}

/// Returns the dynamic temperature, which is computed from the entropy of the tokens' probabilities.
pub fn dynamic_temperature(tokens: &Tokens, config: &SamplerConfig) -> f64 {
    let (range, n) = (config.dynamic_temperature, tokens.len() as f64);
    let (low, high) = ((config.temperature - range).max(0.0), config.temperature + range);
    let share = (entropy(&softmax(tokens)) / n.ln()).clamp(0.0, 1.0);
    low + (high - low) * share.powf(config.dynamic_exponent)
}
