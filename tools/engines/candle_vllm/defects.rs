//! Tests that fail in the unchanged candle-vllm, and pass once it samples with Evenkeel. In these batches, one request
//! makes another fail, or a request's parameters are ignored.

mod requests;

use requests::{Batch, params, request, step};
use sampling::openai::pipelines::pipeline::DefaultPipeline;
use sampling::openai::sampling_params::SamplingParams;

const LOGITS: [f32; 4] = [0.0, 0.25, 0.5, 0.125];

/// Runs three requests. The logits of the second contain a NaN.
fn a_nan_refuses_one_request(params: SamplingParams) {
    let batch: Batch = (0..3).map(|id| request(id, params.clone(), &[])).collect();
    let logits = [LOGITS.to_vec(), vec![0.0, f32::NAN, 0.5, 0.0], LOGITS.to_vec()];
    let drawn = step(&mut DefaultPipeline::with_seed(7), &logits, &batch);
    assert!(drawn[0].is_ok() && drawn[2].is_ok(), "{drawn:?}");
    assert!(drawn[1].as_ref().is_err_and(|reason| reason.contains("NaN")), "{drawn:?}");
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_with_top_k() {
    a_nan_refuses_one_request(params(1.0, Some(2), None, None));
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_with_top_p() {
    a_nan_refuses_one_request(params(1.0, None, Some(0.9), None));
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_with_both() {
    a_nan_refuses_one_request(params(1.0, Some(3), Some(0.9), None));
}

#[test]
fn a_nan_refuses_one_request_of_a_batch_of_greedy_requests() {
    a_nan_refuses_one_request(params(0.0, None, None, None));
}

#[test]
fn a_top_k_above_the_vocabulary_keeps_all() {
    for top_p in [None, Some(0.9)] {
        let batch = Batch::from([request(0, params(1.0, Some(50), top_p, None), &[])]);
        assert!(step(&mut DefaultPipeline::with_seed(7), &[LOGITS.to_vec()], &batch)[0].is_ok());
    }
}

#[test]
fn a_greedy_request_is_greedy_in_a_batch() {
    let mut pipeline = DefaultPipeline::with_seed(7);
    for _ in 0..64 {
        let hot = request(0, params(1.0, Some(4), None, None), &[]);
        let greedy = request(1, params(0.0, Some(4), None, None), &[]);
        let drawn = step(&mut pipeline, &[LOGITS.to_vec(), LOGITS.to_vec()], &Batch::from([hot, greedy]));
        assert_eq!(drawn[1], Ok(2));
    }
}

#[test]
fn a_random_request_draws_the_same_tokens_in_a_batch_as_alone() {
    let run = |others: usize| {
        let (mut pipeline, mut output) = (DefaultPipeline::with_seed(7), Vec::new());
        for _ in 0..64 {
            let hot = params(1.0, Some(4), None, None);
            let mut batch: Batch = (0..others).map(|id| request(id, hot.clone(), &[])).collect();
            batch.push_back(request(9, hot, &output));
            let drawn = step(&mut pipeline, &vec![LOGITS.to_vec(); others + 1], &batch);
            output.push(drawn[others].clone().unwrap());
        }
        output
    };
    assert_eq!(run(3), run(0));
}

#[test]
fn penalties_apply_from_the_first_token() {
    let params = SamplingParams { frequency_penalty: 0.5, ..params(0.0, None, None, None) };
    let batch = Batch::from([request(0, params, &[2])]);
    assert_eq!(step(&mut DefaultPipeline::with_seed(7), &[LOGITS.to_vec()], &batch), [Ok(1)]);
}

#[test]
fn a_penalty_of_one_applies() {
    let params = SamplingParams { presence_penalty: 1.0, ..params(0.0, None, None, None) };
    let batch = Batch::from([request(0, params, &[2; 200])]);
    assert_eq!(step(&mut DefaultPipeline::with_seed(7), &[LOGITS.to_vec()], &batch), [Ok(1)]);
}

#[test]
fn min_p_applies_without_top_p() {
    let mut pipeline = DefaultPipeline::with_seed(7);
    for drawn in 0..64 {
        // The probability of token 0 is 0.78 times the probability of token 2.
        let batch = Batch::from([request(0, params(1.0, Some(4), None, Some(0.7)), &vec![1; drawn])]);
        let token = step(&mut pipeline, &[vec![0.0, -1.0, 0.25, -1.0]], &batch)[0].clone().unwrap();
        assert!(token == 0 || token == 2);
    }
}

/// The unchanged engine passes this test too.
#[test]
fn penalties_apply_after_the_window_is_full() {
    let params = SamplingParams { frequency_penalty: 0.5, ..params(0.0, None, None, None) };
    let batch = Batch::from([request(0, params, &[2; 200])]);
    assert_eq!(step(&mut DefaultPipeline::with_seed(7), &[LOGITS.to_vec()], &batch), [Ok(1)]);
}

/// The unchanged engine passes this test too.
#[test]
fn filters_keep_the_most_probable_tokens() {
    let mut pipeline = DefaultPipeline::with_seed(7);
    for params in [params(1.0, Some(2), None, None), params(1.0, None, Some(0.8), None)] {
        for drawn in 0..64 {
            let batch = Batch::from([request(0, params.clone(), &vec![1; drawn])]);
            let token = step(&mut pipeline, &[vec![4.0, 0.0, 5.0, -1.0]], &batch)[0].clone().unwrap();
            assert!(token == 0 || token == 2);
        }
    }
}
