//! Tests that fail in the unchanged Crane, and pass once its server samples with Evenkeel. The server uses its code for
//! GPUs, whose tensor operations also run on the CPU.

mod server;

use serde_json::json;
use server::{FALLING, complete, distinct, logits};

/// Makes the engine sample with its code for GPUs.
fn on_device() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: the first caller sets the variable, before any thread of the engine exists.
    ONCE.call_once(|| unsafe { std::env::set_var("CRANE_SAMPLE_AS_ON_GPU", "1") });
}

#[test]
fn a_top_k_of_100_keeps_100_tokens_on_a_device() {
    on_device();
    let tokens = complete(FALLING, 2000, json!({ "seed": 1, "temperature": 1.0, "top_k": 100, "top_p": 1.0 })).unwrap();
    assert_eq!(distinct(&tokens), Vec::from_iter(0..100));
}

#[test]
fn a_top_p_without_top_k_keeps_its_share_on_a_device() {
    on_device();
    let weights: Vec<f64> = logits(0).iter().map(|logit| f64::from(*logit).exp()).collect();
    let total: f64 = weights.iter().sum();
    let sums = weights.iter().scan(0.0, |sum, weight| {
        *sum += weight;
        Some(*sum)
    });
    let kept = 1 + sums.take_while(|sum| *sum < 0.95 * total).count();
    let tokens = complete(FALLING, 2000, json!({ "seed": 1, "temperature": 1.0, "top_k": 0, "top_p": 0.95 })).unwrap();
    // The 2000 draws are expected to yield 94 % of the tokens that top-p keeps. The test requires only 80 %.
    let drawn = distinct(&tokens);
    assert!(
        drawn.len() > kept * 4 / 5 && drawn[drawn.len() - 1] < kept,
        "expected more than {} different tokens, all below {kept}, got {} tokens up to {}",
        kept * 4 / 5,
        drawn.len(),
        drawn[drawn.len() - 1]
    );
}

#[test]
fn equal_seeds_give_equal_texts_on_a_device() {
    on_device();
    for (top_k, top_p) in [(0, 1.0), (40, 1.0), (40, 0.95)] {
        let text = |seed: u64| complete(FALLING, 50, json!({ "top_k": top_k, "top_p": top_p, "seed": seed })).unwrap();
        assert_eq!(text(7), text(7), "top_k {top_k}, top_p {top_p}");
    }
}
