//! New version of candle-vllm's module `logits_processor`. It samples for a batch of requests with Evenkeel.

use crate::candle::{Result, Tensor};
use crate::openai::sampling_params::SamplingParams;
use crate::scheduler::sequence::SequenceGroup;
use evenkeel::{Draw, Error, Request, Sampler, SamplerConfig, Step};

/// Evenkeel's functions for tensors of the engine's candle.
mod numerics {
    evenkeel::candle_adapter!(candle_core);
}

/// Number of latest tokens to which penalties apply, unless the request sets another number.
const WINDOW: usize = 128;

/// The request to which a row of logits belongs.
pub struct Row<'a> {
    params: &'a SamplingParams,
    id: usize,
    /// Number of generated tokens.
    drawn: usize,
    /// The generated tokens. Empty if the request has no penalties.
    output: Vec<u32>,
}

impl<'a> Row<'a> {
    pub fn new(group: &'a SequenceGroup) -> Self {
        let params = &group.sampling_params;
        let sequence = group.get_seqs().values().next().expect("a group must have a sequence").deref();
        let mut output = Vec::new();
        if params.frequency_penalty != 0.0 || params.presence_penalty != 0.0 {
            output = sequence.get_token_ids().split_off(sequence.get_prompt_len());
        }
        Row { params, id: group.group_id, drawn: sequence.get_len() - sequence.get_prompt_len(), output }
    }
}

/// Sampler. Its parameters are defaults for requests that set none.
pub struct LogitsProcessor {
    seed: u64,
    temperature: Option<f32>,
    top_k: Option<isize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
}

impl LogitsProcessor {
    pub fn new(
        seed: u64,
        temperature: Option<f32>,
        top_k: Option<isize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
    ) -> Self {
        LogitsProcessor { seed, temperature, top_k, top_p, min_p }
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
                let draw = Draw { seed: self.seed, row: row.id as u64, draw: row.drawn as u64 };
                Request { sampler: sampler.as_ref().unwrap_or(&any), step: Step::from(draw).output(&row.output) }
            })
            .collect();
        let drawn = numerics::sample_rows(logits, None, &requests)?;
        Ok(samplers.into_iter().zip(drawn).map(|(sampler, drawn)| Ok(sampler.and(drawn)?.token)).collect())
    }

    /// Returns the sampler of a request, or an error that names the invalid parameter.
    fn sampler(&self, params: &SamplingParams) -> std::result::Result<Sampler, Error> {
        let is_set = params.temperature.is_some() && (params.top_k.is_some() || params.top_p.is_some());
        let (temperature, top_k, top_p, min_p) = match is_set {
            true => (params.temperature, params.top_k, params.top_p, params.min_p),
            false => (self.temperature, self.top_k, self.top_p, self.min_p),
        };
        let temperature = temperature.map_or(0.0, f64::from);
        let temperature = if temperature < 1e-7 { 0.0 } else { temperature };
        let mut config = SamplerConfig::default().temperature(temperature).logprob(false);
        config.top_k = top_k.filter(|k| *k > 0).map(|k| k as usize);
        config.top_p = top_p.filter(|p| !(*p <= 0.0 || *p >= 1.0)).map(f64::from);
        config.min_p = min_p.filter(|p| *p != 0.0).map(f64::from);
        // In candle-vllm, a window of 0 turns penalties off.
        let window = params.repeat_last_n.unwrap_or(WINDOW);
        if window > 0 {
            config.penalty_window = Some(window);
            config.frequency_penalty = params.frequency_penalty.into();
            config.presence_penalty = params.presence_penalty.into();
        }
        config.validate()
    }
}
