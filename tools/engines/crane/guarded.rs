//! New module of Crane's server. It draws the tokens of Crane's sequences with Evenkeel.

use super::sequence::Sequence;
use anyhow::Result;
use candle_core::Tensor;
use evenkeel::candle::guarded;
use evenkeel::{Draw, SamplerConfig};

/// Draws a token. The n-th token of a request depends only on the request's seed, on n and on the logits.
pub fn draw(seq: &Sequence, temperature: f64, logits: &Tensor) -> Result<u32> {
    let mut config = SamplerConfig::default().temperature(temperature).logprob(false);
    // In Crane, a top-k of 0 keeps all tokens. So does a top-p of at most 0, or of at least 1.
    config.top_k = seq.top_k.filter(|k| *k > 0);
    config.top_p = seq.top_p.filter(|p| *p > 0.0 && *p < 1.0);
    let draw = Draw { seed: seq.seed, row: 0, draw: seq.num_generated() as u64 };
    Ok(guarded::sample_rows(logits, &config.validate()?, None, &[draw])?.swap_remove(0)?.token)
}
