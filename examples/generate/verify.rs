//! Verification of each step against the definition of the sampler.

use evenkeel::{Profile, SamplerConfig, Sequence, reference};
use std::collections::BTreeMap;
use std::fmt;

/// Step at which the result is wrong.
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

/// Fails if a logit is NaN.
pub fn logits(step: usize, logits: &[f32]) -> Result<(), Wrong> {
    match logits.iter().position(|logit| logit.is_nan()) {
        Some(token) => Err(Wrong { step, token: token as u32, what: "the token's logit is NaN" }),
        None => Ok(()),
    }
}

/// Fails if the filters do not keep the token that follows this sequence.
pub fn token(sequence: &Sequence, logits: &[f32], config: &SamplerConfig, token: u32) -> Result<(), Wrong> {
    let logits = penalised(sequence, logits, config);
    // XTC applies at random, so the filters must keep the token either with XTC or without it.
    let kept = [*config, config.xtc(0.0, config.xtc_threshold)].map(|config| reference::sample(&logits, &config));
    if kept.iter().flatten().any(|support| support.tokens.contains(&token)) {
        return Ok(());
    }
    let step = sequence.output().len();
    Err(Wrong { step, token, what: "the token was drawn, but the filters remove it" })
}

/// Returns the logits after penalties, computed by the definition.
fn penalised(sequence: &Sequence, logits: &[f32], config: &SamplerConfig) -> Vec<f32> {
    let mut penalised = logits.to_vec();
    let all = [sequence.prompt(), sequence.output()].concat();
    let window = |n: Option<usize>| &all[all.len().saturating_sub(n.unwrap_or(usize::MAX))..];
    let seen = window(config.penalty_window);
    let counted = match config.profile {
        Profile::LlamaCpp => seen,
        _ => &seen[seen.len() - seen.len().min(sequence.output().len())..],
    };
    let count = |tokens: &[u32], token: usize| tokens.iter().filter(|t| **t as usize == token).count() as f32;
    let [repetition, presence, frequency] =
        [config.repetition_penalty, config.presence_penalty, config.frequency_penalty].map(|penalty| penalty as f32);
    for (token, z) in penalised.iter_mut().enumerate() {
        if seen.contains(&(token as u32)) {
            *z = if *z > 0.0 { *z / repetition } else { *z * repetition };
        }
        let times = count(counted, token);
        *z -= times * frequency;
        *z -= if times > 0.0 { presence } else { 0.0 };
    }
    if config.dry_multiplier > 0.0 {
        for (token, length) in prolonged(window(config.dry_window)) {
            if let Some(longer) = length.checked_sub(config.dry_allowed_length) {
                penalised[token as usize] -= (config.dry_multiplier * config.dry_base.powi(longer as i32)) as f32;
            }
        }
    }
    penalised
}

/// Returns, for each token, the length of the longest repetition that the token would extend. A repetition is a
/// sequence at the end of the text that also stands just before an earlier occurrence of the token.
fn prolonged(tokens: &[u32]) -> BTreeMap<u32, usize> {
    let mut longest = BTreeMap::new();
    for (i, token) in tokens.iter().enumerate() {
        let length = tokens[..i].iter().rev().zip(tokens.iter().rev()).take_while(|(a, b)| a == b).count();
        let known = longest.entry(*token).or_insert(0);
        *known = length.max(*known);
    }
    longest
}
