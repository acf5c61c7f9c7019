//! New module of mistral.rs: Evenkeel's sampler and ops, with the engine's parameters and types.

use std::borrow::Cow;
use std::sync::Mutex;

use candle_core::{D, DType, Result, Tensor};
use evenkeel::candle::guarded;
use evenkeel::{CrossEntropy, Draw, RmsNorm, SamplerConfig, Softmax};
use rand::Rng;
use rand_isaac::Isaac64Rng;

/// Temperature and filters of a request.
#[derive(Clone)]
pub struct Filters {
    sampler: evenkeel::Sampler,
    temperature: f64,
}

impl Filters {
    /// Checks the parameters. Without a temperature, the most probable token is drawn.
    pub fn new(temperature: Option<f64>, top_k: i64, top_p: f64, min_p: f64) -> anyhow::Result<Self> {
        // A value that is not between 0 and 1 turns the filter off. NaN remains set, so that `validate` rejects it.
        let within_0_and_1 = |p: f64| Some(p).filter(|p| !(*p <= 0.0 || *p >= 1.0));
        let mut config = SamplerConfig::default().temperature(temperature.unwrap_or(0.0)).logprob(false);
        config.top_k = usize::try_from(top_k).ok().filter(|k| *k > 0);
        config.top_p = within_0_and_1(top_p);
        config.min_p = within_0_and_1(min_p);
        Ok(Filters { sampler: config.validate()?, temperature: temperature.unwrap_or(1.0) })
    }

    /// Draws one of the tokens that the filters keep, according to their probabilities.
    pub fn draw(&self, logits: &[f32], rng: &Mutex<Isaac64Rng>) -> Result<u32> {
        let seed = rng.lock().expect("the mutex of the random number generator must not be poisoned").random();
        finite(logits, self.sampler.sample(logits, Draw { seed, ..Draw::default() })?.token)
    }

    /// Returns the probability of each token after the filters.
    pub fn probs(&self, logits: &[f32]) -> Result<Vec<f32>> {
        let distribution = self.sampler.distribution(logits, None, Draw::default())?;
        finite(logits, distribution.tokens()[0])?;
        Ok(distribution.probs()?.into_iter().map(|p| p as f32).collect())
    }

    /// Returns the logarithm of a token's probability before the filters. This is the negative cross-entropy.
    pub fn logprob(&self, logits: &[f32], token: u32) -> Result<f32> {
        let scaled = self.scaled(logits);
        let loss = evenkeel::cross_entropy(row(&scaled)?, &[token.into()], &CrossEntropy::default())?;
        // A subtraction, because a loss of 0 would be negated to -0.
        Ok((0.0 - loss.value()) as f32)
    }

    /// Returns the logarithm of the probability of each token before the filters.
    pub fn logprobs(&self, logits: &[f32]) -> Result<Vec<f32>> {
        Ok(evenkeel::log_softmax(row(&self.scaled(logits))?, &Softmax::default())?)
    }

    /// Returns the logits over the temperature in f32. A quotient above the largest f32 becomes this number.
    fn scaled<'a>(&self, logits: &'a [f32]) -> Cow<'a, [f32]> {
        if self.temperature == 1.0 {
            return logits.into();
        }
        let inverse = (1.0 / self.temperature).min(f32::MAX.into()) as f32;
        // Compiles to a minimum, which `f32::min` does not, because of NaN.
        let clamped = |z: f32| if z > f32::MAX { f32::MAX } else { z };
        logits.iter().map(|z| clamped(z * inverse)).collect()
    }
}

fn row(logits: &[f32]) -> Result<evenkeel::Rows<'_, f32>> {
    Ok(evenkeel::Rows::shaped(logits, &[logits.len()])?)
}

/// Returns the most probable token.
pub fn most_probable(logits: &[f32]) -> Result<u32> {
    let greedy = SamplerConfig::default().temperature(0.0).validate()?;
    finite(logits, greedy.sample(logits, Draw::default())?.token)
}

/// Returns the `k` largest of the log-probabilities above -inf, in descending order, each with its token. Returns fewer
/// if there are fewer.
pub fn largest(logprobs: &[f32], k: usize) -> Result<Vec<(u32, f32)>> {
    let sampler = SamplerConfig::default().top_k(k).validate()?;
    let top = sampler.distribution(logprobs, None, Draw::default())?.top_logprobs(k);
    Ok(top.into_iter().map(|(token, _)| (token, logprobs[token as usize])).collect())
}

/// Rejects a row with logits of +inf. Evenkeel would draw a token with such a logit, but mistral.rs rejects such rows.
fn finite(logits: &[f32], token: u32) -> Result<u32> {
    if logits[token as usize] == f32::INFINITY {
        candle_core::bail!("the logit of token {token} is infinite");
    }
    Ok(token)
}

/// Computes ln(1 + e^x).
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    Ok(guarded::softplus(x)?)
}

/// Computes `x / sqrt(sum(x^2) + eps)` along the last axis.
pub fn l2_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    // RMSNorm divides `x` by `sqrt(sum(x^2) / n + eps)`. With the weight `1 / sqrt(n)`, and `eps / n` in place of
    // `eps`, it divides by `sqrt(sum(x^2) + eps)`.
    let n = x.dim(D::Minus1)?;
    let weight = Tensor::full(1.0 / (n as f32).sqrt(), n, x.device())?;
    Ok(guarded::rms_norm(x, Some(&weight), &RmsNorm::default().eps(eps / n as f64))?)
}

/// Returns half of the lowest finite number of the type. Adding this number to a score masks the score without an
/// overflow.
pub fn masked(dtype: DType) -> f32 {
    let limits = match dtype {
        DType::F16 => evenkeel::DType::F16.limits(),
        DType::BF16 => evenkeel::DType::BF16.limits(),
        _ => evenkeel::DType::F32.limits(),
    };
    (-limits.max / 2.0) as f32
}
