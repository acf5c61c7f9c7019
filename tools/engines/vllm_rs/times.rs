//! Compares the times of vllm.rs' `ModelRunner::sample` before and after it uses Evenkeel, for a decode step of 8
//! requests of 49,152 logits each.

mod interleave;
mod requests;

use candle_core::{Device, Tensor};
use llguidance::api::TopLevelGrammar;
use requests::{params, request};
use sampling::core::runner::{ModelRunner, Seqs};
use sampling::core::sequence::Sequence;
use sampling::utils::config::SamplingParams;
use sampling::utils::guidance::ParserFactory;
use std::sync::Arc;
use toktrie::SimpleVob;

const ROWS: usize = 8;
const VOCABULARY: usize = 49_152;

fn main() {
    let is_changed = include_str!("../../src/utils/logits_processor.rs").contains("evenkeel");
    // Only a few logits are large, as in a model's output. A multiplicative hash spreads the large logits over the row.
    let spread = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32).ln() * -2.0;
    let logits: Vec<f32> = (1..=ROWS * VOCABULARY).map(spread).collect();
    let logits = Tensor::from_vec(logits, (ROWS, VOCABULARY), &Device::Cpu).unwrap();
    let guided = SamplingParams { grammar: Some(TopLevelGrammar::from_regex("a+")), ..params(0.8, None, None) };
    let cases = [
        ("greedy", params(0.0, None, None)),
        ("temperature", params(0.8, None, None)),
        ("temperature, grammar", guided),
        ("top-p 0.9", params(0.8, None, Some(0.9))),
        ("top-k 50", params(0.8, Some(50), None)),
        ("top-k 50, top-p 0.9", params(0.8, Some(50), Some(0.9))),
    ];
    let case = |(name, params): (&'static str, SamplingParams)| -> interleave::Case {
        let logits = logits.clone();
        // The grammar allows every token.
        let mut allowed = SimpleVob::alloc(VOCABULARY);
        allowed.set_all(true);
        let mut runner = ModelRunner::with_seed(7);
        runner.llg_factory = Some(Arc::new(ParserFactory(allowed)));
        let sequences: Vec<Sequence> = (0..ROWS).map(|id| request(id, &params)).collect();
        // Runs a prefill first, because the engine without Evenkeel uses the prefill's parameters in later steps.
        let batch: Vec<&Sequence> = sequences.iter().collect();
        runner.sample(&logits, Seqs::SeqRefs(&batch), true).unwrap();
        let step = move || {
            let batch: Vec<&Sequence> = sequences.iter().collect();
            assert_eq!(runner.sample(&logits, Seqs::SeqRefs(&batch), false).unwrap().len(), ROWS);
        };
        (name, Box::new(step))
    };
    interleave::compare(is_changed, cases.into_iter().map(case).collect());
}
