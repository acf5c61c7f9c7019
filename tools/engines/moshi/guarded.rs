//! New module of moshi: Evenkeel's attention and sampler for moshi's tensors.

use candle::{Result, Tensor};
use evenkeel::candle::guarded;
use evenkeel::{Attention, Draw, Mask, SamplerConfig};

/// Seed of all streams. The tokens of a stream depend only on this seed and on its own logits, not on other streams.
const SEED: u64 = 299_792_458;

/// Creates a mask that hides the keys whose bias is not 0.
pub fn mask(bias: &Tensor) -> Result<Mask<'static>> {
    Ok(guarded::mask::keep(&bias.eq(0f32)?)?)
}

/// Computes attention of queries, keys and values `[batch, heads, steps, features]`. Masked keys and values have no
/// effect, even if they are NaN.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Mask>) -> Result<Tensor> {
    let mut options = Attention::default();
    options.mask = mask;
    Ok(guarded::attention(q, k, v, &options)?)
}

/// Draws a token for each stream from logits `[batch, tokens]`. `steps` holds, for each stream, the number of tokens
/// drawn so far. If a stream gets an error, the other streams still get tokens.
pub fn sample(logits: &Tensor, temperature: f64, steps: &[usize]) -> Result<Vec<evenkeel::Result<u32>>> {
    let temperature = if temperature <= 0.0 { 0.0 } else { temperature };
    let sampler = SamplerConfig::default().temperature(temperature).logprob(false).validate()?;
    let draws: Vec<_> = steps.iter().map(|&step| Draw { seed: SEED, row: 0, draw: step as u64 }).collect();
    let sampled = guarded::sample_rows(logits, &sampler, None, &draws)?;
    Ok(sampled.into_iter().map(|sampled| sampled.map(|sampled| sampled.token)).collect())
}
