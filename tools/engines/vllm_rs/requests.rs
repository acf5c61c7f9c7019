//! Requests for the tests of vllm.rs, built from the engine's types.

use candle_core::{Device, Tensor};
use sampling::core::runner::{ModelRunner, Seqs};
use sampling::core::sequence::Sequence;
use sampling::utils::config::SamplingParams;

/// Parameters without penalties.
pub fn params(temperature: f32, top_k: Option<isize>, top_p: Option<f32>) -> SamplingParams {
    let max_tokens = Some(1 << 20);
    SamplingParams::new(Some(temperature), max_tokens, None, top_k, top_p, None, None, None, None, None)
}

/// Request with a prompt of two tokens.
pub fn request(id: usize, params: &SamplingParams) -> Sequence {
    let mut sequence = Sequence::new(vec![0, 0], 64, params.clone(), &None, 0);
    sequence.id = id;
    sequence.block_table.push(0);
    sequence
}

/// Returns the tokens that are drawn for the batch, or an error if the whole batch fails.
pub fn step(
    runner: &ModelRunner,
    logits: &[Vec<f32>],
    batch: &[&Sequence],
    is_prefill: bool,
) -> candle_core::Result<Vec<u32>> {
    let logits = Tensor::new(logits.to_vec(), &Device::Cpu)?;
    runner.sample(&logits, Seqs::SeqRefs(batch), is_prefill)
}
