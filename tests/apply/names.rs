//! Tests of names of ops, inputs, attributes and outputs, and of `null`.

use crate::program::Apply;
use serde_json::{Value, json};

/// Runs jobs that all fail because of a name. Each case pairs a job with a part of its error message.
fn refused(cases: &[(Value, &str)]) {
    let jobs = cases.iter().enumerate().map(|(i, (job, _))| {
        let mut job = job.clone();
        job["id"] = json!(i.to_string());
        job
    });
    let text = Value::Array(jobs.collect()).to_string();
    let outcome = fixture().run_text(text.as_bytes());
    outcome.answered();
    for (i, ((job, part), answer)) in cases.iter().zip(&outcome.answers).enumerate() {
        assert_eq!(answer["id"], i.to_string());
        assert_eq!(answer["error"], "InvalidArgument", "job {job}: expected the error InvalidArgument, got {answer}");
        assert!(
            answer["message"].as_str().is_some_and(|m| m.contains(part)),
            "job {job}: expected {part:?} in the error message, got {answer}"
        );
    }
    assert!(outcome.names().is_empty());
}

fn fixture() -> Apply {
    Apply::new().f32("x", &[2, 2], &[0.0; 4]).integers("positions", &[2], &[0, 1])
}

#[test]
fn unknown_names() {
    refused(&[
        (json!({"op": "softmin", "inputs": {"x": "x"}, "outputs": {"y": "y"}}), "`softmin` is unknown"),
        (json!({"op": "", "inputs": {"x": "x"}, "outputs": {"y": "y1"}}), "`` is unknown"),
        (json!({"op": "attend", "inputs": {"x": "x"}, "outputs": {"y": "y2"}}), "`attend` is unknown"),
        (
            json!({"op": "exp", "inputs": {"x": "x", "y": "x"}, "outputs": {"y": "y3"}}),
            "input `y` is unknown; accepted: x",
        ),
        (json!({"op": "exp", "inputs": {"x": "x"}, "attrs": {"base": 2}, "outputs": {"y": "y4"}}), "attribute `base`"),
        (json!({"op": "exp", "inputs": {"x": "x"}, "outputs": {"z": "y5"}}), "output `z` is unknown"),
        (json!({"op": "logsumexp", "inputs": {"x": "x"}, "attrs": {"scale": 2}, "outputs": {"y": "y6"}}), "`scale`"),
        (json!({"op": "logsumexp", "inputs": {"x": "x", "dy": "x"}, "outputs": {"y": "z6"}}), "input `dy` is unknown"),
        (json!({"op": "logsumexp", "inputs": {"x": "x"}, "outputs": {"dx": "z7"}}), "output `dx` is unknown"),
        (json!({"op": "exp", "inputs": {"x": "nowhere"}, "outputs": {"y": "y7"}}), "no tensor `nowhere`"),
        (json!({"op": "exp", "inputs": {"x": 3}, "outputs": {"y": "y8"}}), "input `x` is 3"),
        (json!({"op": "exp", "inputs": {"x": ["x"]}, "outputs": {"y": "y9"}}), "input `x` is [\"x\"]"),
        (json!({"op": "exp", "inputs": {"x": "x"}, "outputs": {"y": 3}}), "output `y` is 3"),
        (json!({"op": "exp", "inputs": {"x": "x"}, "outputs": {"y": ""}}), "output `y` is \"\""),
        (json!({"op": "exp", "inputs": {"x": "x"}, "outputs": {"y": "__metadata__"}}), "__metadata__"),
    ]);
}

/// Checks that the program knows every op. The answer to an unknown op lists the known ops.
#[test]
fn registered_names() {
    let outcome = fixture().run_text(br#"[{"id": "0", "op": "", "inputs": {}, "outputs": {"y": "y"}}]"#);
    let message = outcome.answers[0]["message"].as_str().unwrap();
    let (_, known) = message.split_once("one of ").unwrap();
    for op in evenkeel::registry::OPS {
        // The program's list of ops has no gradients, because a gradient is an output of its forward op.
        let name = op.name.strip_suffix("_backward").unwrap_or(op.name);
        assert!(
            known.split(", ").any(|op| op == name),
            "expected the program `apply` to list the registered op {name}, got {known}"
        );
    }
}

#[test]
fn missing_names() {
    refused(&[
        (json!({"op": "exp", "outputs": {"y": "y"}}), "input `x` is missing"),
        (json!({"op": "exp", "inputs": null, "outputs": {"y": "y1"}}), "input `x` is missing"),
        (json!({"op": "exp", "inputs": {"x": null}, "outputs": {"y": "y2"}}), "input `x` is missing"),
        (json!({"op": "rope", "inputs": {"x": "x"}, "outputs": {"y": "y3"}}), "input `positions` is missing"),
        (json!({"op": "sample", "inputs": {}, "outputs": {"tokens": "y4"}}), "input `logits` is missing"),
        (json!({"op": "exp", "inputs": {"x": "x"}}), "no output is requested"),
        (json!({"op": "exp", "inputs": {"x": "x"}, "outputs": {}}), "no output is requested"),
        (json!({"op": "exp", "inputs": {"x": "x"}, "outputs": {"y": null}}), "no output is requested"),
        (json!({"op": "rms_norm", "inputs": {"x": "x"}, "outputs": {"residual": "y5"}}), "needs the input `residual`"),
        (json!({"op": "softmax", "inputs": {"x": "x"}, "outputs": {"y": "y6", "dx": "y7"}}), "needs the input `dy`"),
        (json!({"op": "log_softmax", "inputs": {"x": "x"}, "outputs": {"dx": "y8"}}), "needs the input `dy`"),
        (json!({"op": "rms_norm", "inputs": {"x": "x"}, "outputs": {"dx": "y9"}}), "needs the input `dy`"),
        (
            json!({"op": "layer_norm", "inputs": {"x": "x", "dy": "x"}, "outputs": {"dweight": "y10"}}),
            "needs the input `weight`",
        ),
        (
            json!({"op": "layer_norm", "inputs": {"x": "x", "dy": "x"}, "outputs": {"dbias": "y11"}}),
            "needs the input `bias`",
        ),
    ]);
}

#[test]
fn an_output_name_is_used_once() {
    let jobs = br#"[
        {"id":"a","op":"exp","inputs":{"x":"x"},"outputs":{"y":"same"}},
        {"id":"b","op":"log","inputs":{"x":"x"},"outputs":{"y":"same"}},
        {"id":"c","op":"rms_norm","inputs":{"x":"x","residual":"x"},"outputs":{"y":"twice","residual":"twice"}},
        {"id":"d","op":"silu","inputs":{"x":"x"},"outputs":{"y":"other"}}
    ]"#;
    let outcome = fixture().run_text(jobs);
    outcome.answered();
    let ok: Vec<_> = outcome.answers.iter().map(|answer| answer["ok"] == true).collect();
    assert_eq!(ok, [true, false, false, true]);
    assert!(outcome.answers[2]["message"].as_str().is_some_and(|m| m.contains("`twice` is used twice")));
    assert_eq!(outcome.names(), ["other", "same"]);
    assert_eq!(outcome.values("same"), [1.0; 4]);
}

#[test]
fn answers_are_in_order_and_one_failure_stops_no_other() {
    let jobs = br#"[
        {"id":"z \"quoted\"","op":"exp","inputs":{"x":"x"},"outputs":{"y":"a"}},
        {"op":"sample","outputs":{"tokens":"b"},"inputs":{"logits":"x"},"attrs":{"top_p":1.2},"id":"m"},
        {"id":"a","op":"log","inputs":{"x":"x"},"attrs":null,"outputs":{"y":"c"}}
    ]"#;
    let outcome = fixture().run_text(jobs);
    outcome.answered();
    assert_eq!(outcome.answers[0], json!({"id": "z \"quoted\"", "ok": true}));
    let message = "sample: top_p is 1.2; it must be in (0, 1]";
    assert_eq!(outcome.answers[1], json!({"id": "m", "ok": false, "error": "InvalidArgument", "message": message}));
    assert_eq!(outcome.answers[2], json!({"id": "a", "ok": true}));
    assert_eq!(outcome.names(), ["a", "c"]);
}
