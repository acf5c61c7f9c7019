//! Evenkeel's sampler for this engine's sequences.

use super::sequence::Sequence;
use anyhow::Result;
use candle_core::Tensor;
use evenkeel::{Draw, SamplerConfig};

/// Draws a token. The n-th token of a request depends only on its seed, n and the logits.
pub fn draw(seq: &Sequence, temperature: f64, logits: &Tensor) -> Result<u32> {
    let mut config = SamplerConfig::default().temperature(temperature);
    // For this engine, a top-k of 0 and a top-p outside of 0 to 1 keep all tokens.
    config.top_k = seq.top_k.filter(|k| *k > 0);
    config.top_p = seq.top_p.filter(|p| *p > 0.0 && *p < 1.0);
    let draw = Draw { seed: seq.seed, row: 0, draw: seq.num_generated() as u64 };
    Ok(config.validate()?.sample(&logits.to_vec1::<f32>()?, draw)?.token)
}
