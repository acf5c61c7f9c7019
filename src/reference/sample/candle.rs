//! Filters of `LogitsProcessor` in candle-transformers. Probabilities are computed once, for all tokens, and no filter
//! renormalises them.

use super::tokens::{Tokens, greedy, heat, softmax, sort_descending};
use crate::ops::sample::SamplerConfig;

pub fn keep(mut tokens: Tokens, config: &SamplerConfig) -> Tokens {
    if config.temperature < 1e-7 {
        return greedy(tokens);
    }
    heat(&mut tokens, config.temperature);
    sort_descending(&mut tokens);
    let probs = softmax(&tokens);
    if let Some(k) = config.top_k {
        tokens.truncate(k);
    }
    if let Some(p) = config.top_p.filter(|p| *p > 0.0 && *p < 1.0) {
        let mut before = 0.0;
        let kept = probs[..tokens.len()].iter().take_while(|q| {
            let stays = before < p;
            before += **q;
            stays
        });
        let kept = kept.count();
        tokens.truncate(kept);
    }
    tokens
}
