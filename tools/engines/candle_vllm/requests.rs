//! Batches of requests for the tests of candle-vllm, built from the engine's types.

use candle_core::{Device, Tensor};
use either::Either;
use sampling::openai::ToolChoiceKind;
use sampling::openai::pipelines::pipeline::DefaultPipeline;
use sampling::openai::requests::{EmbeddingType, EncodingFormat};
use sampling::openai::sampling_params::{EarlyStoppingCondition, Logprobs, SamplingParams};
use sampling::scheduler::sequence::{_Sequence, Sequence, SequenceGroup};
use std::collections::VecDeque;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

pub type Batch = VecDeque<Arc<SequenceGroup>>;

/// Parameters without penalties.
pub fn params(temperature: f32, top_k: Option<isize>, top_p: Option<f32>, min_p: Option<f32>) -> SamplingParams {
    SamplingParams {
        n: 1,
        best_of: 1,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repeat_last_n: None,
        temperature: Some(temperature),
        top_p,
        min_p,
        top_k,
        use_beam_search: false,
        length_penalty: 1.0,
        early_stopping: EarlyStoppingCondition::UnlikelyBetterCandidates,
        stop: None,
        stop_token_ids: Vec::new(),
        ignore_eos: false,
        max_tokens: 1 << 20,
        logprobs: None,
        prompt_logprobs: None,
        skip_special_tokens: true,
        thinking: None,
        mcp_mode: None,
    }
}

/// Request with a prompt of two tokens, and the tokens that were generated so far.
pub fn request(id: usize, params: SamplingParams, output: &[u32]) -> Arc<SequenceGroup> {
    let mut sequence = _Sequence::new(&vec![0, 0], id, 64, None);
    for token in output {
        sequence.add_token(Logprobs { token: *token, logprob: 0.0, bytes: String::new(), top_logprobs: Vec::new() });
    }
    Arc::new(SequenceGroup::new(
        &[Arc::new(Sequence(RwLock::new(sequence)))],
        0,
        id,
        String::new(),
        SystemTime::UNIX_EPOCH,
        params,
        false,
        false,
        EncodingFormat,
        EmbeddingType,
        Vec::new(),
        ToolChoiceKind,
        None,
        false,
    ))
}

/// Returns each request's token, or the reason why the request is finished.
pub fn step(pipeline: &mut DefaultPipeline, logits: &[Vec<f32>], batch: &Batch) -> Vec<Result<u32, String>> {
    let logits = Tensor::new(logits.to_vec(), &Device::Cpu).unwrap();
    let drawn = pipeline.sample(&logits, batch).unwrap();
    let outcome = |drawn| match drawn {
        Either::Left(Logprobs { token, .. }) => Ok(token),
        Either::Right(reason) => Err(reason),
    };
    drawn.into_iter().map(outcome).collect()
}
