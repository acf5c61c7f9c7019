//! New version of vllm.rs's module `logits_processor`. It samples for a batch of requests with Evenkeel.

use super::config::{GenerationConfig, SamplingParams};
use candle_core::{Result, Tensor};
use evenkeel::{Draw, Error, Request, Sampler, SamplerConfig, Step};

/// Evenkeel's functions for tensors of the engine's candle.
mod numerics {
    evenkeel::candle_adapter!(candle_core);
}

/// Marks a row that the sampler refused. This value takes the place of the row's token.
pub const REFUSED: u32 = u32::MAX;

/// Number of latest tokens to which penalties apply.
const WINDOW: usize = 128;

/// The request to which a row of logits belongs.
pub struct Row<'a> {
    pub id: usize,
    pub params: &'a SamplingParams,
    /// Number of tokens in the prompt and the output together.
    pub length: usize,
    pub output: &'a [u32],
    /// Tokens that a grammar allows, one bit each.
    pub allowed: Option<&'a [u32]>,
}

/// Sampler. If a request leaves a parameter unset, its value is taken from `defaults`.
pub struct LogitsProcessor {
    seed: u64,
    defaults: Option<GenerationConfig>,
}

impl LogitsProcessor {
    pub fn new(seed: u64, defaults: Option<GenerationConfig>) -> Self {
        LogitsProcessor { seed, defaults }
    }

    /// Draws a token for each row. A row's token does not depend on the other rows. If a row has an error, the other
    /// rows still get their tokens.
    pub fn sample(&self, logits: &Tensor, rows: &[Row]) -> Result<Vec<std::result::Result<u32, Error>>> {
        let samplers: Vec<_> = rows.iter().map(|row| self.sampler(row.params)).collect();
        // This sampler takes the place of each sampler whose parameters are invalid. The token that it draws is not
        // used.
        let any = SamplerConfig::default().validate().map_err(numerics::error)?;
        let requests: Vec<Request> = rows
            .iter()
            .zip(&samplers)
            .map(|(row, sampler)| {
                let draw = Draw { seed: self.seed, row: row.id as u64, draw: row.length as u64 };
                let step = Step::from(draw).output(row.output);
                let step = row.allowed.map_or(step, |words| step.allowed(words));
                Request { sampler: sampler.as_ref().unwrap_or(&any), step }
            })
            .collect();
        let drawn = numerics::sample_rows(logits, None, &requests)?;
        Ok(samplers.into_iter().zip(drawn).map(|(sampler, drawn)| Ok(sampler.and(drawn)?.token)).collect())
    }

    /// Returns the sampler of a request, or an error that names the invalid parameter.
    fn sampler(&self, user: &SamplingParams) -> std::result::Result<Sampler, Error> {
        let defaults = self.defaults.as_ref();
        let is_set = user.temperature.is_some()
            || user.top_k.is_some_and(|k| k > 0)
            || user.top_p.is_some_and(|p| p > 0.0 && p < 1.0);
        let complete = |c: &&GenerationConfig| c.temperature.is_some() && (c.top_k.is_some() || c.top_p.is_some());
        let (temperature, top_k, top_p) = match defaults.filter(complete) {
            _ if is_set => (user.temperature, user.top_k, user.top_p),
            Some(defaults) => (defaults.temperature, defaults.top_k, defaults.top_p),
            None => (Some(0.7), Some(32), Some(0.95)),
        };
        let temperature = temperature.map_or(0.0, f64::from);
        let mut config = SamplerConfig::default()
            .temperature(if temperature < 1e-7 { 0.0 } else { temperature })
            .penalty_window(WINDOW)
            .logprob(false);
        config.top_k = top_k.filter(|k| *k > 0).map(|k| k as usize);
        config.top_p = top_p.filter(|p| !(*p <= 0.0 || *p >= 1.0)).map(f64::from);
        let frequency = user.frequency_penalty.or(defaults.and_then(|c| c.frequency_penalty));
        let presence = user.presence_penalty.or(defaults.and_then(|c| c.presence_penalty));
        config.frequency_penalty = frequency.map_or(0.0, f64::from);
        config.presence_penalty = presence.map_or(0.0, f64::from);
        config.validate()
    }
}
