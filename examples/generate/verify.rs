//! Each step against the definition of what may be drawn.

use evenkeel::SamplerConfig;
use std::fmt;

/// A step at which something is wrong.
#[derive(Debug)]
pub struct Wrong {
    step: usize,
    token: u32,
    what: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}, token {}: {}", self.step, self.token, self.what)
    }
}

impl std::error::Error for Wrong {}

/// Fails if there is a NaN among the logits.
pub fn logits(step: usize, logits: &[f32]) -> Result<(), Wrong> {
    match logits.iter().position(|logit| logit.is_nan()) {
        Some(token) => Err(Wrong { step, token: token as u32, what: "its logit is NaN" }),
        None => Ok(()),
    }
}

/// Fails if the token is not among those that the filters keep.
pub fn token(step: usize, logits: &[f32], config: &SamplerConfig, token: u32) -> Result<(), Wrong> {
    if sample(logits, config).contains(&token) {
        return Ok(());
    }
    Err(Wrong { step, token, what: "it was drawn, though the filters do not keep it" })
}

/// The tokens that filters keep, as they are defined: logits sorted, probabilities and their sums in f64.
pub fn sample(logits: &[f32], config: &SamplerConfig) -> Vec<u32> {
    // Adding 0 makes -0 the 0 that it equals.
    let logit = |token: &u32| f64::from(logits[*token as usize]) + 0.0;
    let mut kept: Vec<u32> = (0..logits.len() as u32).filter(|token| logit(token) > f64::NEG_INFINITY).collect();
    // Stable, so that equal logits stay in the order of their tokens.
    kept.sort_by(|a, b| logit(b).total_cmp(&logit(a)));
    let Some(max) = kept.first().map(logit) else { return kept };
    if max == f64::INFINITY {
        kept.retain(|token| logit(token) == max);
        return kept;
    }
    if config.temperature == 0.0 {
        kept.truncate(1);
        return kept;
    }
    let mass = |token: &u32| ((logit(token) - max) / config.temperature).exp();
    if let Some(k) = config.top_k {
        kept.truncate(k);
    }
    if let Some(p) = config.top_p {
        let total: f64 = kept.iter().map(mass).sum();
        let mut sum = 0.0;
        let reached = kept.iter().position(|token| {
            sum += mass(token);
            sum >= p * total
        });
        kept.truncate(reached.map_or(kept.len(), |last| last + 1));
    }
    if let Some(p) = config.min_p {
        kept.retain(|token| mass(token) >= p);
    }
    kept
}
