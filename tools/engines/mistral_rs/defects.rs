//! Tests that fail in the unchanged mistral.rs, and pass once it uses Evenkeel. For these inputs, the engine's own
//! sampler, softplus, norm and mask return wrong results.

use crate::attention::attend;
use crate::gdn::backend::{compute_beta_g, l2_norm, softplus};
use crate::granite;
use crate::layers_masker::CausalMasker;
use crate::sampler::{Logprobs, ModelGenerationDefaults, Sampler, SamplingParams};
use candle_core::{DType, Device, Result, Tensor};
use rand::SeedableRng;
use rand_isaac::Isaac64Rng;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

const NO_TEMPERATURE: Option<f64> = None;
const OFF: f64 = 0.0;

/// Returns a sampler whose only filters are these.
fn sampler(temperature: Option<f64>, top_p: f64, min_p: f64) -> anyhow::Result<Sampler> {
    Sampler::new(temperature, 2, None, None, None, None, None, -1, top_p, min_p, HashMap::new(), vec![])
}

/// Returns the sampler of a request to a model whose generation defaults suppress this token.
fn suppressing(token: u32, temperature: Option<f64>) -> Sampler {
    let mut params = SamplingParams::neutral();
    let suppress_tokens = Some(vec![token]);
    params.apply_model_defaults(&ModelGenerationDefaults { suppress_tokens, ..Default::default() });
    let bias = params.logits_bias.unwrap();
    Sampler::new(temperature, 0, None, None, None, None, None, -1, OFF, OFF, bias, vec![]).unwrap()
}

fn row(logits: &[f32]) -> Tensor {
    Tensor::new(logits, &Device::Cpu).unwrap()
}

fn sample(sampler: &Sampler, logits: &[f32], seed: u64, is_speculative: bool) -> Result<Logprobs> {
    let rng = Arc::new(Mutex::new(Isaac64Rng::seed_from_u64(seed)));
    sampler.sample(row(logits), &[0], 1, true, rng, is_speculative, false)
}

/// Logits of two tokens. The ratio of the second token's probability to the first token's is 0.2 + 2e-8.
const A_FIFTH: [f32; 2] = [0.0, -1.6094378];

#[test]
fn min_p_keeps_a_probability_at_the_bound() {
    let sampler = sampler(Some(1.0), OFF, 0.2).unwrap();
    assert!((0..64).any(|seed| sample(&sampler, &A_FIFTH, seed, false).unwrap().token == 1));
}

#[test]
fn min_p_keeps_a_probability_at_the_bound_in_speculation() {
    let sampler = sampler(Some(1.0), OFF, 0.2).unwrap();
    let probs = sampler.speculative_candidate_probs(row(&A_FIFTH), &[0], 1).unwrap();
    assert!((probs[1] - 1.0 / 6.0).abs() < 1e-6, "{probs:?}");
}

/// In f32, this min-p rounds to 1.
#[test]
fn min_p_just_below_1_keeps_the_most_probable_token() {
    let sampler = sampler(Some(1.0), OFF, 1.0 - 1e-9).unwrap();
    assert_eq!(sample(&sampler, &[1.0, 2.0, 0.0], 1, false).unwrap().token, 1);
}

#[test]
fn a_top_p_of_0_is_no_filter_in_speculation() {
    let sampler = sampler(Some(1.0), 0.0, OFF).unwrap();
    assert_eq!(sample(&sampler, &[1.0, 2.0, 0.0], 1, true).unwrap().token, 1);
}

#[test]
fn a_nan_parameter_is_refused() {
    assert!(sampler(Some(1.0), f64::NAN, OFF).is_err());
    assert!(sampler(Some(1.0), OFF, f64::NAN).is_err());
    assert!(sampler(Some(f64::NAN), OFF, OFF).is_err());
}

/// In f32, the second token's probability, e^-200, is 0.
#[test]
fn log_probabilities_of_improbable_tokens_are_finite() {
    for temperature in [NO_TEMPERATURE, Some(1.0)] {
        let sampler = sampler(temperature, OFF, OFF).unwrap();
        let top = sample(&sampler, &[0.0, -200.0], 1, false).unwrap().top_logprobs.unwrap();
        assert_eq!((top[1].token, top[1].logprob), (1, -200.0));
    }
}

/// In f32, the log-sum-exp of the scaled logits is rounded to less than the largest scaled logit.
#[test]
fn log_probabilities_are_at_most_0_and_those_of_the_list() {
    let sampler = sampler(Some(0.1), OFF, OFF).unwrap();
    let drawn = sample(&sampler, &[25.6865, -100.0], 1, false).unwrap();
    assert_eq!((drawn.logprob, drawn.top_logprobs.unwrap()[0].logprob), (0.0, 0.0));
}

#[test]
fn a_suppressed_token_is_not_drawn_if_all_others_are_banned() {
    for temperature in [NO_TEMPERATURE, Some(1.0)] {
        let drawn = sample(&suppressing(0, temperature), &[5.0, f32::NEG_INFINITY], 1, false);
        assert!(drawn.is_err(), "drew token {}", drawn.unwrap().token);
    }
}

#[test]
fn softplus_of_large_arguments_is_finite() {
    assert_eq!(softplus(&row(&[100.0])).unwrap().to_vec1::<f32>().unwrap(), [100.0]);
}

#[test]
fn softplus_of_small_arguments_is_not_zero() {
    assert_eq!(softplus(&row(&[-20.0])).unwrap().to_vec1::<f32>().unwrap(), [2.0611537e-9]);
}

#[test]
fn granite_softplus_of_large_arguments_is_finite() {
    assert_eq!(granite::softplus(&row(&[100.0])).unwrap().to_vec1::<f32>().unwrap(), [100.0]);
}

#[test]
fn granite_softplus_of_small_arguments_is_not_zero() {
    assert_eq!(granite::softplus(&row(&[-20.0])).unwrap().to_vec1::<f32>().unwrap(), [2.0611537e-9]);
}

/// The decay is the product `e^-200 * softplus(100)`. In f32, `e^-200` is 0. If softplus overflows to infinity, the
/// product is NaN.
#[test]
fn the_decay_of_a_large_gate_is_not_nan() {
    let scalar = |x: f32| Tensor::full(x, (1, 1, 1), &Device::Cpu).unwrap();
    let (a_log, dt_bias) = (row(&[-200.0]), row(&[0.0]));
    let (_, g) = compute_beta_g(&scalar(0.0), &scalar(100.0), &a_log, &dt_bias, DType::F32).unwrap();
    assert_eq!(g.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.0]);
}

/// The sum of squares, 131,072, exceeds the largest f16.
#[test]
fn the_norm_of_large_f16_values_is_not_infinite() {
    let x = Tensor::full(32f32, (1, 128), &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
    let y = l2_norm(&x, 1e-6).unwrap().to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    assert!((y[0][0] - 128f32.sqrt().recip()).abs() < 1e-4, "{}", y[0][0]);
}

/// If 512 ones are added in bf16, the sum stays at 256.
#[test]
fn the_norm_of_long_bf16_rows_counts_all_squares() {
    let x = Tensor::ones((1, 512), DType::BF16, &Device::Cpu).unwrap();
    let y = l2_norm(&x, 1e-6).unwrap().to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    assert!((y[0][0] - 512f32.sqrt().recip()).abs() < 2e-4, "{}", y[0][0]);
}

/// The second sequence consists of padding only.
#[test]
fn attention_of_a_padded_f16_sequence_is_not_nan() {
    let kept = Tensor::new(&[[1u8, 1], [0, 0]], &Device::Cpu).unwrap();
    let mask = CausalMasker.expand_mask(&kept, DType::F16, None).unwrap();
    let x = Tensor::ones((2, 2, 1, 8), DType::F16, &Device::Cpu).unwrap();
    let y = attend(&x, &x, &x, &mask).unwrap().to_dtype(DType::F32).unwrap();
    assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0; 32]);
}
