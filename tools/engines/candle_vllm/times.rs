//! Compares the times of candle-vllm's `DefaultPipeline::sample` before and after it uses Evenkeel, for 8 requests of
//! 49,152 logits each.

mod interleave;
mod requests;

use candle_core::{Device, Tensor};
use requests::{Batch, params, request};
use sampling::openai::pipelines::pipeline::DefaultPipeline;
use sampling::openai::sampling_params::SamplingParams;

const ROWS: usize = 8;
const VOCABULARY: usize = 49_152;

fn main() {
    let is_changed = include_str!("../../src/openai/logits_processor.rs").contains("evenkeel");
    // Only a few logits are large, as in a model's output. A multiplicative hash spreads the large logits over the row.
    let spread = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32).ln() * -2.0;
    let logits: Vec<f32> = (1..=ROWS * VOCABULARY).map(spread).collect();
    let logits = Tensor::from_vec(logits, (ROWS, VOCABULARY), &Device::Cpu).unwrap();
    // The unchanged engine applies penalties only if there are more generated tokens than the penalty window, which is
    // 128.
    let output: Vec<u32> = (0..200).collect();
    let penalties = SamplingParams { frequency_penalty: 0.5, ..params(0.0, None, None, None) };
    let greedy = params(0.0, None, None, None);
    let cases = [
        ("greedy", VOCABULARY, greedy.clone()),
        // Most of this time does not depend on the sampler.
        ("greedy, 16 logits", 16, greedy),
        ("greedy with penalties", VOCABULARY, penalties),
        ("top-p 1", VOCABULARY, params(0.8, None, Some(1.0), None)),
        ("top-p 0.9", VOCABULARY, params(0.8, None, Some(0.9), None)),
        ("top-k 50", VOCABULARY, params(0.8, Some(50), None, None)),
        ("top-k 50, top-p 0.9", VOCABULARY, params(0.8, Some(50), Some(0.9), None)),
    ];
    let case = |(name, len, params): (&'static str, usize, SamplingParams)| -> interleave::Case {
        let mut pipeline = DefaultPipeline::with_seed(7);
        let logits = logits.narrow(1, 0, len).unwrap().contiguous().unwrap();
        let batch: Batch = (0..ROWS).map(|id| request(id, params.clone(), &output)).collect();
        (name, Box::new(move || assert_eq!(pipeline.sample(&logits, &batch).unwrap().len(), ROWS)))
    };
    interleave::compare(is_changed, cases.into_iter().map(case).collect());
}
