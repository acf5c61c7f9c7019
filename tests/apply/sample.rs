//! Tests of the op `sample`: candidates, probabilities and keyed draws.

use crate::program::{Apply, FLOATS, assert_close};
use safetensors::Dtype;
use serde_json::{Value, json};

const INF: f64 = f64::INFINITY;
const LOGITS: [f64; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

/// Divides the kept tokens' logits by the temperature, and computes their softmax. All other tokens get 0.
fn probs(logits: &[f64], temperature: f64, kept: &[usize]) -> Vec<f64> {
    let e = |i: usize| if kept.contains(&i) { ((logits[i] - 3.0) / temperature).exp() } else { 0.0 };
    let sum: f64 = (0..logits.len()).map(e).sum();
    (0..logits.len()).map(|i| e(i) / sum).collect()
}

fn job(attrs: Value) -> Value {
    json!(["sample", {"logits": "logits"}, attrs, ["probs", "tokens", "logprobs"]])
}

#[test]
fn what_filters_keep() {
    let cases: Vec<(Value, f64, Vec<usize>)> = vec![
        (json!({}), 1.0, vec![0, 1, 2, 3, 4]),
        (json!({"temperature": 0.5}), 0.5, vec![0, 1, 2, 3, 4]),
        (json!({"temperature": 0}), 1.0, vec![1]),
        (json!({"top_k": 1}), 1.0, vec![1]),
        (json!({"top_k": 3.0}), 1.0, vec![1, 2, 3]),
        (json!({"top_k": 1000}), 1.0, vec![0, 1, 2, 3, 4]),
        (json!({"top_p": 0.39}), 1.0, vec![1]),
        (json!({"top_p": 0.4}), 1.0, vec![1, 3]),
        (json!({"top_p": 1}), 1.0, vec![0, 1, 2, 3, 4]),
        (json!({"min_p": 0.3}), 1.0, vec![1, 2, 3]),
        (json!({"min_p": 0}), 1.0, vec![0, 1, 2, 3, 4]),
        (json!({"top_k": 3, "top_p": 0.9, "min_p": 0.5}), 1.0, vec![1, 3]),
        (json!({"profile": "evenkeel", "top_k": null, "history": null}), 1.0, vec![0, 1, 2, 3, 4]),
    ];
    for (dtype, _) in FLOATS {
        let jobs: Vec<_> = cases.iter().map(|(attrs, ..)| job(attrs.clone())).collect();
        let outcome = Apply::new().floats("logits", dtype, &[1, 5], &LOGITS).run(&jobs).all_ok();
        for (i, (_, temperature, kept)) in cases.iter().enumerate() {
            let (probs_dtype, shape, got) = outcome.tensor(&format!("{i}.probs"));
            assert_eq!((probs_dtype, shape), (Dtype::F32, vec![1, 5]));
            assert_close(&got, &probs(&LOGITS, *temperature, kept), 1e-7);
            let (tokens_dtype, shape, tokens) = outcome.tensor(&format!("{i}.tokens"));
            assert_eq!((tokens_dtype, shape), (Dtype::I64, vec![1, 1]));
            assert!(kept.contains(&(tokens[0] as usize)));
            let (logprobs_dtype, shape, logprobs) = outcome.tensor(&format!("{i}.logprobs"));
            assert_eq!((logprobs_dtype, shape), (Dtype::F32, vec![1, 1]));
            assert_close(&logprobs, &[got[tokens[0] as usize].ln()], 1e-6);
        }
    }
}

/// Checks the tokens kept by each profile, and parameters that only some profiles have.
#[test]
fn what_profiles_keep() {
    let cases: Vec<(Value, Vec<usize>)> = vec![
        (json!({"profile": "hf", "top_k": 1}), vec![1, 3]),
        (json!({"profile": "vllm", "top_k": 1}), vec![1, 3]),
        (json!({"profile": "llama_cpp", "top_k": 1}), vec![1]),
        (json!({"profile": "candle", "top_k": 1}), vec![1]),
        (json!({"profile": "hf", "top_p": 0.3}), vec![3]),
        (json!({"profile": "hf", "top_p": 0}), vec![3]),
        (json!({"profile": "llama_cpp", "top_p": 0}), vec![1]),
        (json!({"profile": "candle", "top_p": 0}), vec![0, 1, 2, 3, 4]),
        (json!({"profile": "vllm", "top_k": 0}), vec![0, 1, 2, 3, 4]),
        (json!({"profile": "vllm", "temperature": 0}), vec![1]),
        (json!({"profile": "candle", "temperature": 1e-8}), vec![1]),
        (json!({"typical_p": 0.5}), vec![1, 3]),
        (json!({"top_n_sigma": 1}), vec![1, 2, 3]),
        (json!({"epsilon_cutoff": 0.1}), vec![1, 2, 3]),
        (json!({"eta_cutoff": 0.5}), vec![1, 3]),
        (json!({"xtc_probability": 1, "xtc_threshold": 0.1}), vec![0, 2, 4]),
    ];
    let jobs: Vec<_> = cases.iter().map(|(attrs, _)| job(attrs.clone())).collect();
    let outcome = Apply::new().f32("logits", &[1, 5], &LOGITS).run(&jobs).all_ok();
    for (i, (attrs, kept)) in cases.iter().enumerate() {
        let (_, _, probs) = outcome.tensor(&format!("{i}.probs"));
        let got: Vec<usize> = (0..5).filter(|&token| probs[token] > 0.0).collect();
        assert_eq!(
            got, *kept,
            "sample with {attrs}: expected nonzero probabilities for the tokens {kept:?} only, got {got:?}"
        );
    }
}

/// Checks penalties. The history of the first row has token 1 twice, and the history of the second row has token 0
/// twice.
#[test]
fn penalties_see_the_history() {
    let attrs = json!({"repetition_penalty": 2, "frequency_penalty": 0.5, "presence_penalty": 0.25});
    let inputs = json!({"logits": "logits", "history": "history"});
    let outcome = Apply::new()
        .f32("logits", &[2, 2], &[0.0, 2.0, 0.0, 2.0])
        .integers("history", &[2, 2], &[1, 1, 0, 0])
        .run(&[json!(["sample", inputs, attrs, ["probs"]])])
        .all_ok();
    let (_, _, probs) = outcome.tensor("0.probs");
    // The repetition, frequency and presence penalties give token 1 of the first row the logit 2 / 2 - 2 * 0.5 - 0.25,
    // and token 0 of the second row the logit 0 - 2 * 0.5 - 0.25.
    let second = |first: f64, second: f64| 1.0 / (1.0 + (first - second).exp());
    assert_close(&[probs[1], probs[3]], &[second(0.0, -0.25), second(-1.25, 2.0)], 1e-7);

    let outcome = Apply::new()
        .f32("logits", &[1, 2], &[0.0, 2.0])
        .integers("history", &[1, 2], &[1, 2])
        .run(&[json!(["sample", inputs, attrs, ["probs"]])]);
    assert_eq!(outcome.answers[0]["error"], "InvalidArgument");
    let message = outcome.answers[0]["message"].as_str().unwrap_or("");
    assert!(
        message.contains("history of row 0 has token 2; tokens must be at least 0 and below 2"),
        "expected an error about token 2, got {message}"
    );
}

#[test]
fn draws_follow_the_probabilities() {
    let draws = 20_000;
    let outcome = Apply::new()
        .f32("logits", &[2, 5], &[LOGITS, LOGITS].concat())
        .run(&[job(json!({"draws": draws, "seed": 7}))])
        .all_ok();
    let (_, shape, tokens) = outcome.tensor("0.tokens");
    assert_eq!(shape, [2, draws]);
    let rows: Vec<&[f64]> = tokens.chunks(draws).collect();
    assert_ne!(rows[0], rows[1]);
    for row in rows {
        for (token, p) in probs(&LOGITS, 1.0, &[0, 1, 2, 3, 4]).into_iter().enumerate() {
            let count = row.iter().filter(|&&t| t == token as f64).count() as f64;
            // With a random seed, a correct sampler would fail in about one of 5 * 10^7 runs.
            let deviation = (draws as f64 * p * (1.0 - p)).sqrt();
            assert!(
                (count - draws as f64 * p).abs() <= 6.0 * deviation,
                "sample: expected token {token} in about {} of {draws} draws, got {count}",
                draws as f64 * p
            );
        }
    }
}

#[test]
fn a_seed_is_64_bits() {
    let seeds =
        [json!(0), json!(2), json!(2.0), json!(u64::MAX), json!(u64::MAX - 1), json!(1u64 << 63), json!("none")];
    let jobs = seeds.map(|seed| job(json!({"draws": 64, "seed": if seed == "none" { Value::Null } else { seed }})));
    let apply = Apply::new().f32("logits", &[1, 64], &[0.0; 64]);
    let outcome = apply.run(&jobs).all_ok();
    let tokens = |i: usize| outcome.values(&format!("{i}.tokens"));
    assert_eq!(tokens(0), tokens(6));
    assert_eq!(tokens(1), tokens(2));
    for (a, b) in [(0, 1), (3, 4), (0, 5), (3, 5)] {
        assert_ne!(tokens(a), tokens(b));
    }
    // The first draws of a longer run equal the draws of a shorter run.
    let shorter = apply.run(&[job(json!({"draws": 8, "seed": u64::MAX}))]).all_ok();
    assert_eq!(shorter.values("0.tokens"), tokens(3)[..8]);
}

#[test]
fn masks_and_infinities() {
    let nan = f64::NAN;
    let outcome = Apply::new()
        .f32("logits", &[2, 3], &[1.0, 2.0, 3.0, 0.0, INF, INF])
        .f32("finite", &[1, 3], &[1.0, 2.0, 3.0])
        .f32("broken", &[2, 3], &[1.0, nan, 3.0, 0.0, 1.0, 2.0])
        .bytes("first", Dtype::BOOL, &[3], &[1, 0, 0])
        .bytes("no_second", Dtype::U8, &[2, 3], &[1, 0, 1, 1, 1, 0])
        .f32("bias", &[1, 3], &[2.0, 1.0, -INF])
        .run(&[
            json!(["sample", {"logits": "logits"}, {}, ["probs"]]),
            json!(["sample", {"logits": "logits", "mask": "first"}, {}, ["probs", "tokens"]]),
            json!(["sample", {"logits": "broken", "mask": "no_second"}, {}, ["probs"]]),
            json!(["sample", {"logits": "finite", "mask": "bias"}, {"temperature": 2}, ["probs"]]),
        ])
        .all_ok();
    assert_eq!(outcome.values("0.probs")[3..], [0.0, 0.5, 0.5]);
    assert_eq!(outcome.values("1.probs"), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(outcome.values("1.tokens"), [0.0, 0.0]);
    assert_eq!(outcome.values("2.probs")[1], 0.0);
    // The biased logits 1 + 2 and 2 + 1 are equal before the temperature divides them.
    assert_eq!(outcome.values("3.probs"), [0.5, 0.5, 0.0]);
}

#[test]
fn rows_that_cannot_be_drawn_from() {
    let nan = f64::NAN;
    let outcome = Apply::new()
        .f32("broken", &[4, 2], &[1.0, 2.0, -INF, -INF, 0.0, nan, nan, 0.0])
        .f32("nothing", &[3, 2], &[1.0, 2.0, -INF, -INF, -INF, -INF])
        .f32("no_tokens", &[2, 0], &[])
        .f32("no_rows", &[0, 5], &[])
        .bytes("none", Dtype::BOOL, &[2], &[0, 0])
        .run(&[
            json!(["sample", {"logits": "broken"}, {}, ["tokens"]]),
            json!(["sample", {"logits": "nothing"}, {}, ["tokens"]]),
            json!(["sample", {"logits": "nothing", "mask": "none"}, {}, ["tokens"]]),
            json!(["sample", {"logits": "no_tokens"}, {}, ["tokens"]]),
            json!(["sample", {"logits": "no_rows"}, {"draws": 3}, ["probs", "tokens", "logprobs"]]),
        ]);
    outcome.answered();
    let said = |i: usize| {
        let answer = &outcome.answers[i];
        (answer["error"].as_str(), answer["row"].as_u64(), answer["index"].as_u64())
    };
    assert_eq!(said(0), (Some("NonFiniteInput"), Some(2), Some(1)));
    assert_eq!(said(1), (Some("EmptySupport"), Some(1), None));
    assert_eq!(said(2), (Some("EmptySupport"), Some(0), None));
    assert_eq!(said(3), (Some("EmptyInput"), None, None));
    assert_eq!(outcome.tensor("4.probs").1, [0, 5]);
    assert_eq!(outcome.tensor("4.tokens").1, [0, 3]);
    assert_eq!(outcome.tensor("4.logprobs").1, [0, 3]);
}
