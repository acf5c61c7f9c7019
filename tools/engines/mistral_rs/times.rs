//! Prints the time of a step of mistral.rs' own sampler, and of the sampler that uses Evenkeel. In the first run,
//! before the edits, both are the engine's own sampler.

use candle_core::{Device, Tensor};
use numerics::{before, sampler};
use rand::SeedableRng;
use rand_isaac::Isaac64Rng;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const VOCABULARY: usize = 49_152;
const REPETITIONS: usize = 100;

fn micros(step: impl FnOnce()) -> f64 {
    let start = Instant::now();
    step();
    start.elapsed().as_secs_f64() * 1e6
}

fn main() {
    // The logits have a spread that is typical of language models.
    let logits: Vec<f32> =
        (0..VOCABULARY as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0).collect();
    let logits = Tensor::from_vec(logits, VOCABULARY, &Device::Cpu).unwrap();
    let rng = Arc::new(Mutex::new(Isaac64Rng::seed_from_u64(1)));
    println!("µs per step, the minimum of {REPETITIONS}, for {VOCABULARY} logits");
    for (name, temperature, top_k, top_p, min_p, logprobs) in [
        ("greedy", None, -1, 0.0, 0.0, false),
        ("temperature 0.8", Some(0.8), -1, 0.0, 0.0, false),
        ("temperature 0.8, top-k 50, top-p 0.9", Some(0.8), 50, 0.9, 0.0, false),
        ("temperature 0.8, top-p 0.9", Some(0.8), -1, 0.9, 0.0, false),
        ("temperature 0.8, min-p 0.05", Some(0.8), -1, 0.0, 0.05, false),
        ("temperature 0.8, top-k 50, top-p 0.9, 5 log-probabilities", Some(0.8), 50, 0.9, 0.0, true),
    ] {
        macro_rules! step {
            ($module:ident) => {{
                let new = |bias| {
                    $module::Sampler::new(
                        temperature,
                        5,
                        None,
                        None,
                        None,
                        None,
                        None,
                        top_k,
                        top_p,
                        min_p,
                        bias,
                        vec![],
                    )
                };
                let (sampler, logits, rng) = (new(HashMap::new()).unwrap(), &logits, &rng);
                move || {
                    let (logits, rng) = (logits.clone(), rng.clone());
                    black_box(sampler.sample(logits, &[0], 1, logprobs, rng, false, false).unwrap());
                }
            }};
        }
        let (before, after) = (step!(before), step!(sampler));
        // Both samplers take turns, so that other processes delay both equally.
        let (mut old, mut new) = (f64::MAX, f64::MAX);
        for _ in 0..REPETITIONS {
            old = old.min(micros(&before));
            new = new.min(micros(&after));
        }
        println!("{name}: before {old:.0}, after {new:.0}, ratio {:.1}", old / new);
    }
}
