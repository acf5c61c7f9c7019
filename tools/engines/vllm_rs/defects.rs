//! Tests that fail in the unchanged vllm.rs, and pass once it samples with Evenkeel. In these batches, one request
//! makes another fail, or a request's parameters are ignored.

mod requests;

use candle_core::{Device, Tensor};
use llguidance::api::TopLevelGrammar;
use requests::{params, request, step};
use sampling::core::runner::{ModelRunner, Seqs};
use sampling::core::scheduler::Scheduler;
use sampling::core::sequence::{DecodeSequence, Sequence, SequenceStatus};
use sampling::utils::config::SamplingParams;
use sampling::utils::guidance::ParserFactory;
use std::sync::Arc;
use toktrie::SimpleVob;

const LOGITS: [f32; 4] = [0.0, 0.25, 0.5, 0.125];

/// Prefills three requests. The logits of the second contain a NaN. The scheduler must finish only this request.
fn a_nan_refuses_one_request(params: SamplingParams) {
    let batch: Vec<Sequence> = (0..3).map(|id| request(id, &params)).collect();
    let logits = [LOGITS.to_vec(), vec![0.0, f32::NAN, 0.5, 0.0], LOGITS.to_vec()];
    let runner = ModelRunner::with_seed(7);
    let tokens = step(&runner, &logits, &batch.iter().collect::<Vec<_>>(), true).unwrap();
    let mut scheduler = Scheduler::with(batch);
    scheduler.postprocess(&[0, 1, 2], &tokens);
    let [first, second, third] = &scheduler.running[..] else { panic!() };
    assert_eq!([first.status, third.status], [SequenceStatus::Waiting; 2]);
    assert!(first.output_ids[0] < 4 && third.output_ids[0] < 4);
    assert_eq!(second.status, SequenceStatus::Finished);
    assert!(second.output_ids.is_empty());
    assert_eq!(scheduler.block_manager.freed, [1]);
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_with_temperature() {
    a_nan_refuses_one_request(params(1.0, None, None));
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_with_top_k() {
    a_nan_refuses_one_request(params(1.0, Some(2), None));
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_with_top_p() {
    a_nan_refuses_one_request(params(1.0, None, Some(0.9)));
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_of_greedy_requests() {
    a_nan_refuses_one_request(params(0.0, None, None));
}

#[test]
fn a_top_k_above_the_vocabulary_keeps_all() {
    for top_p in [None, Some(0.9)] {
        let sequence = request(0, &params(1.0, Some(50), top_p));
        let tokens = step(&ModelRunner::with_seed(7), &[LOGITS.to_vec()], &[&sequence], true).unwrap();
        assert!(tokens[0] < 4);
    }
}

#[test]
fn a_greedy_request_is_greedy_in_a_batch() {
    let runner = ModelRunner::with_seed(7);
    for id in 0..64 {
        let (hot, greedy) = (request(id, &params(1.0, None, None)), request(100, &params(0.0, None, None)));
        let tokens = step(&runner, &[LOGITS.to_vec(), LOGITS.to_vec()], &[&hot, &greedy], true).unwrap();
        assert_eq!(tokens[1], 2);
    }
}

#[test]
fn a_request_keeps_its_parameters_when_another_begins() {
    let runner = ModelRunner::with_seed(7);
    let mut greedy = request(100, &params(0.0, None, None));
    greedy.append_token(step(&runner, &[LOGITS.to_vec()], &[&greedy], true).unwrap()[0]);
    for id in 0..64 {
        step(&runner, &[LOGITS.to_vec()], &[&request(id, &params(1.0, None, None))], true).unwrap();
        greedy.append_token(step(&runner, &[LOGITS.to_vec()], &[&greedy], false).unwrap()[0]);
    }
    assert_eq!(greedy.output_ids, [2; 65]);
}

#[test]
fn a_random_request_draws_the_same_tokens_in_a_batch_as_alone() {
    let run = |others: usize| {
        let (runner, hot) = (ModelRunner::with_seed(7), params(1.0, None, None));
        let others: Vec<Sequence> = (0..others).map(|id| request(id, &hot)).collect();
        let mut sequence = request(9, &hot);
        for n in 0..64 {
            let batch: Vec<&Sequence> = others.iter().chain([&sequence]).collect();
            let tokens = step(&runner, &vec![LOGITS.to_vec(); batch.len()], &batch, n == 0).unwrap();
            sequence.append_token(tokens[others.len()]);
        }
        sequence.output_ids
    };
    assert_eq!(run(3), run(0));
}

fn with_penalties(frequency: f32, presence: f32) -> SamplingParams {
    let mut params = params(0.0, None, None);
    (params.frequency_penalty, params.presence_penalty) = (Some(frequency), Some(presence));
    params
}

#[test]
fn penalties_apply_from_the_first_token() {
    let runner = ModelRunner::with_seed(7);
    let mut sequence = request(0, &with_penalties(0.5, 0.0));
    for (n, expected) in [2, 1, 3].into_iter().enumerate() {
        let tokens = step(&runner, &[LOGITS.to_vec()], &[&sequence], n == 0).unwrap();
        assert_eq!(tokens, [expected]);
        sequence.append_token(expected);
    }
}

/// Tests a runner that runs in another process. Such a runner receives only the last token of a sequence.
#[test]
fn penalties_apply_from_the_first_token_in_another_process() {
    let runner = ModelRunner::with_seed(7);
    let mut sequence = request(0, &with_penalties(0.5, 0.0));
    sequence.append_token(step(&runner, &[LOGITS.to_vec()], &[&sequence], true).unwrap()[0]);
    let logits = Tensor::new(&[LOGITS], &Device::Cpu).unwrap();
    for expected in [1, 3] {
        let batch = vec![DecodeSequence::new(&sequence)];
        assert_eq!(runner.sample(&logits, Seqs::DecodeVec(&batch), false).unwrap(), [expected]);
        sequence.append_token(expected);
    }
}

/// Returns the greedy token after token 2 was drawn 200 times.
fn after_200_tokens(params: SamplingParams) -> u32 {
    let (runner, mut sequence) = (ModelRunner::with_seed(7), request(0, &params));
    for n in 0..200 {
        let certain = vec![f32::NEG_INFINITY, f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY];
        sequence.append_token(step(&runner, &[certain], &[&sequence], n == 0).unwrap()[0]);
    }
    assert_eq!(sequence.output_ids, [2; 200]);
    step(&runner, &[LOGITS.to_vec()], &[&sequence], false).unwrap()[0]
}

#[test]
fn a_penalty_of_one_applies() {
    assert_eq!(after_200_tokens(with_penalties(0.0, 1.0)), 1);
}

/// The unchanged engine passes this test too.
#[test]
fn penalties_apply_after_the_window_is_full() {
    assert_eq!(after_200_tokens(with_penalties(0.5, 0.0)), 1);
}

/// The unchanged engine passes this test too.
#[test]
fn a_grammar_masks_only_its_row() {
    let mut allowed = SimpleVob::alloc(4);
    allowed.allow_token(1);
    allowed.allow_token(3);
    let mut runner = ModelRunner::with_seed(7);
    runner.llg_factory = Some(Arc::new(ParserFactory(allowed)));
    let free = request(0, &params(0.0, None, None));
    let mut guided = request(1, &params(0.0, None, None));
    guided.sampling_params.grammar = Some(TopLevelGrammar::from_regex("a+"));
    let tokens = step(&runner, &[LOGITS.to_vec(), LOGITS.to_vec()], &[&free, &guided], true).unwrap();
    assert_eq!(tokens, [2, 1]);
}
