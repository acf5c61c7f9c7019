//! The PyTorch sampler of vLLM V1. Min-p is applied before top-k and top-p. Top-k and top-p use an ascending sort.

use super::hugging_face::{filter, nth_largest, top_p};
use super::tokens::{Tokens, greedy, heat, softmax};
use crate::ops::sample::SamplerConfig;

pub fn keep(mut tokens: Tokens, config: &SamplerConfig) -> Tokens {
    if config.temperature < 1e-5 {
        return greedy(tokens);
    }
    heat(&mut tokens, config.temperature.max(0.01));
    if let Some(p) = config.min_p {
        let probs = softmax(&tokens);
        let best = probs.iter().copied().fold(0.0, f64::max);
        filter(&mut tokens, |i| probs[i] >= p * best);
    }
    if let Some(k) = config.top_k.filter(|k| *k > 0) {
        let bound = nth_largest(tokens.iter().map(|(_, z)| *z), k);
        tokens.retain(|(_, z)| *z >= bound);
    }
    if let Some(p) = config.top_p.filter(|p| *p < 1.0) {
        top_p(&mut tokens, f64::from(1.0 - p as f32), 1);
    }
    tokens
}
