//! Tests that fail in the unchanged Crane, and pass once its server samples with Evenkeel. The server uses its code for
//! CPUs. In the unchanged server, the tokens of these requests contradict the parameters.

mod server;

use serde_json::json;
use server::{FALLING, NAN, RARE, complete, distinct};

#[test]
fn a_top_k_of_1_is_greedy() {
    for top_p in [1.0, 0.95] {
        let tokens =
            complete(FALLING, 100, json!({ "seed": 1, "temperature": 1.0, "top_k": 1, "top_p": top_p })).unwrap();
        assert_eq!(distinct(&tokens), [0], "top_p {top_p}");
    }
}

#[test]
fn a_top_k_of_100_keeps_100_tokens() {
    let tokens = complete(FALLING, 2000, json!({ "seed": 1, "temperature": 1.0, "top_k": 100, "top_p": 1.0 })).unwrap();
    assert_eq!(distinct(&tokens), Vec::from_iter(0..100));
}

#[test]
fn equal_seeds_give_equal_texts() {
    for top_p in [1.0, 0.95] {
        let text = |seed: u64| complete(FALLING, 50, json!({ "top_p": top_p, "top_k": 0, "seed": seed })).unwrap();
        assert_eq!(text(7), text(7), "top_p {top_p}");
        assert_ne!(text(7), text(8), "top_p {top_p}");
    }
}

#[test]
fn a_token_far_below_the_largest_logit_is_drawn() {
    let tokens = complete(RARE, 2000, json!({ "seed": 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0 })).unwrap();
    // `rare` has a mean of 17 and a standard deviation of 4.
    let rare = tokens.iter().filter(|token| **token != 0).count();
    assert!((5..35).contains(&rare), "expected 5 to 34 of 2000 tokens to differ from token 0, got {rare}");
}

#[test]
fn a_nan_is_refused() {
    assert!(complete(NAN, 1, json!({ "temperature": 0.0 })).is_err());
    assert!(complete(NAN, 1, json!({ "seed": 1, "temperature": 1.0, "top_p": 1.0 })).is_err());
}
