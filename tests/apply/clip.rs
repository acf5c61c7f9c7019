//! Tests of clip_grad_norm, clip_grad_value and adaptive_clip. Each input of these ops is a list of tensor names.

use crate::program::{Apply, FLOATS, Outcome, assert_close};
use safetensors::Dtype;
use serde_json::{Value, json};

const A: [f64; 4] = [3.0, -4.0, 0.5, 0.0];
const B: [f64; 2] = [12.0, -0.25];

fn fixture() -> Apply {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    Apply::new()
        .f32("a", &[2, 2], &A)
        .floats("b", Dtype::BF16, &[2], &B)
        .floats("far", Dtype::F64, &[2], &[3e200, -4e200])
        .floats("halves", Dtype::F16, &[100_000], &vec![300.0; 100_000])
        .f32("nan", &[3], &[1.0, 2.0, nan])
        .floats("inf", Dtype::F64, &[], &[inf])
        .floats("empty", Dtype::F16, &[0, 3], &[])
        .integers("ints", &[2], &[1, 2])
}

fn job(op: &str, grads: Value, attrs: Value, outputs: Value) -> Value {
    json!({"op": op, "inputs": {"grads": grads}, "attrs": attrs, "outputs": outputs})
}

fn run(jobs: Vec<Value>) -> Outcome {
    let numbered = jobs.into_iter().enumerate().map(|(i, mut job)| {
        job["id"] = json!(i.to_string());
        job
    });
    fixture().run_text(Value::Array(numbered.collect()).to_string().as_bytes())
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn norms_over_a_list() {
    let all = [&A[..], &B].concat();
    let norm_job = |attrs: Value, name: &str| {
        let outputs = json!({"grads": [format!("{name}a"), format!("{name}b")], "norm": format!("{name}n")});
        job("clip_grad_norm", json!(["a", "b"]), attrs, outputs)
    };
    let outcome = run(vec![
        norm_job(json!({"max_norm": 1}), "two."),
        norm_job(json!({"max_norm": 1, "norm_type": 1.0}), "one."),
        norm_job(json!({"max_norm": 1, "norm_type": "inf"}), "inf."),
        norm_job(json!({"max_norm": 1, "mode": "torch"}), "torch."),
        norm_job(json!({"max_norm": 100}), "kept."),
        norm_job(json!({"max_norm": "inf", "error_if_nonfinite": false, "norm_type": null}), "free."),
        norm_job(json!({"max_norm": 0}), "zero."),
    ])
    .all_ok();
    let sum = all.iter().map(|v| v.abs()).sum::<f64>();
    for (name, norm, by) in [
        ("two", norm(&all), 1.0 / norm(&all)),
        ("one", sum, 1.0 / sum),
        ("inf", 12.0, 1.0 / 12.0),
        ("torch", norm(&all), 1.0 / (norm(&all) + 1e-6)),
        ("kept", norm(&all), 1.0),
        ("free", norm(&all), 1.0),
        ("zero", norm(&all), 0.0),
    ] {
        let (dtype, shape, found) = outcome.tensor(&format!("{name}.n"));
        assert_eq!((dtype, shape), (Dtype::F64, vec![]));
        assert_close(&found, &[norm], 1e-15);
        assert_eq!(outcome.tensor(&format!("{name}.a")).1, [2, 2]);
        assert_eq!(outcome.tensor(&format!("{name}.b")).0, Dtype::BF16);
        assert_close(&outcome.values(&format!("{name}.a")), &A.map(|v| v * by), FLOATS[1].1);
        assert_close(&outcome.values(&format!("{name}.b")), &B.map(|v| v * by), FLOATS[3].1);
    }
}

#[test]
fn hard_cases() {
    let outcome = run(vec![
        job("clip_grad_norm", json!(["halves"]), json!({"max_norm": 1}), json!({"grads": ["0"], "norm": "n0"})),
        job("clip_grad_norm", json!(["far"]), json!({"max_norm": 5}), json!({"grads": ["1"], "norm": "n1"})),
        job("clip_grad_norm", json!([]), json!({"max_norm": 5}), json!({"grads": [], "norm": "n2"})),
        job("clip_grad_norm", json!(["empty"]), json!({"max_norm": 5}), json!({"grads": ["3"], "norm": "n3"})),
        job(
            "clip_grad_value",
            json!(["far", "inf", "nan"]),
            json!({"clip_value": 1.5}),
            json!({"grads": ["4", "5", "6"]}),
        ),
    ])
    .all_ok();
    assert_close(&outcome.values("n0"), &[300.0 * 1e5f64.sqrt()], 1e-15);
    assert_close(&outcome.values("0"), &vec![1.0 / 1e5f64.sqrt(); 100_000], FLOATS[2].1);
    assert_close(&outcome.values("n1"), &[5e200], 1e-15);
    assert_close(&outcome.values("1"), &[3.0, -4.0], 1e-15);
    assert_eq!((outcome.values("n2"), outcome.values("n3")), (vec![0.0], vec![0.0]));
    assert_eq!(outcome.tensor("3").1, [0, 3]);
    assert_eq!((outcome.values("4"), outcome.values("5")), (vec![1.5, -1.5], vec![1.5]));
    assert_close(&outcome.values("6"), &[1.0, 1.5, f64::NAN], 0.0);
}

#[test]
fn what_is_not_finite() {
    let lax = |mode: &str| json!({"max_norm": 1, "mode": mode, "error_if_nonfinite": false});
    let grads = json!(["a", "nan", "inf"]);
    let outcome = run(vec![
        job("clip_grad_norm", grads.clone(), json!({"max_norm": 1}), json!({"norm": "never"})),
        job("clip_grad_norm", grads.clone(), lax("exact"), json!({"grads": ["0a", "0n", "0i"], "norm": "0"})),
        job("clip_grad_norm", grads, lax("torch"), json!({"grads": ["1a", "1n", "1i"], "norm": "1"})),
        job("clip_grad_norm", json!(["a", "inf"]), lax("torch"), json!({"grads": ["2a", "2i"], "norm": "2"})),
    ]);
    outcome.answered();
    let refused = &outcome.answers[0];
    assert_eq!(
        (&refused["error"], &refused["row"], &refused["index"]),
        (&json!("NonFiniteInput"), &json!(1), &json!(2))
    );
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (name, wanted) in [
        ("0", vec![nan]),
        ("0a", A.to_vec()),
        ("0n", vec![1.0, 2.0, nan]),
        ("0i", vec![inf]),
        ("1", vec![nan]),
        ("1a", vec![nan; 4]),
        ("1i", vec![nan]),
        ("2", vec![inf]),
        ("2a", vec![0.0; 4]),
        ("2i", vec![nan]),
    ] {
        assert_close(&outcome.values(name), &wanted, 0.0);
    }
}

#[test]
fn what_is_refused() {
    let (norm, value) = ("clip_grad_norm", "clip_grad_value");
    let out = |name: &str| json!({"grads": [name]});
    let limit = json!({"max_norm": 1});
    let cases = [
        (job(norm, json!(["a"]), json!({}), out("0")), "InvalidArgument", "`max_norm` is missing"),
        (job(norm, json!(["a"]), json!({"max_norm": -1}), out("1")), "InvalidArgument", "max_norm is -1"),
        (job(norm, json!(["a"]), json!({"max_norm": "nan"}), out("2")), "InvalidArgument", "max_norm is NaN"),
        (
            job(norm, json!(["a"]), json!({"max_norm": 1, "norm_type": 3}), out("3")),
            "InvalidArgument",
            "norm_type is 3",
        ),
        (job(norm, json!(["a"]), json!({"max_norm": 1, "mode": "optax"}), out("4")), "InvalidArgument", "mode"),
        (
            job(norm, json!(["a"]), json!({"max_norm": 1, "error_if_nonfinite": 0}), out("5")),
            "InvalidArgument",
            "error_if",
        ),
        (job(norm, json!("a"), limit.clone(), out("6")), "InvalidArgument", "an array of tensors' names"),
        (job(norm, json!(["a", 3]), limit.clone(), out("7")), "InvalidArgument", "an array of tensors' names"),
        (
            job(norm, json!(["a"]), limit.clone(), json!({"grads": "8"})),
            "InvalidArgument",
            "an array of tensors' names",
        ),
        (job(norm, json!(["a", "b"]), limit.clone(), out("9")), "InvalidArgument", "has 1 names; 2 are needed"),
        (job(norm, json!(["a", "b"]), limit.clone(), json!({"grads": ["10", "10"]})), "InvalidArgument", "used twice"),
        (job(norm, json!(["nowhere"]), limit.clone(), out("11")), "InvalidArgument", "no tensor `nowhere`"),
        (job(norm, json!(["a"]), limit.clone(), json!({"norm": ["12"]})), "InvalidArgument", "a tensor's name"),
        (
            job(norm, json!(["b", "ints"]), json!({"max_norm": -1}), json!({"norm": "13"})),
            "UnsupportedDType",
            "grads[1] is I64",
        ),
        (job(norm, json!(["nan"]), json!({"max_norm": -1}), out("14")), "InvalidArgument", "max_norm"),
        (job(value, json!(["a"]), json!({}), out("15")), "InvalidArgument", "`clip_value` is missing"),
        (job(value, json!(["a"]), json!({"clip_value": -0.5}), out("16")), "InvalidArgument", "clip_value is -0.5"),
        (job(value, json!(["a"]), json!({"clip_value": "nan"}), out("17")), "InvalidArgument", "clip_value is NaN"),
        (
            job(value, json!(["a"]), json!({"clip_value": 1, "norm_type": 2}), out("18")),
            "InvalidArgument",
            "`norm_type`",
        ),
    ];
    let outcome = run(cases.iter().map(|(job, ..)| job.clone()).collect());
    outcome.answered();
    for ((job, error, part), answer) in cases.iter().zip(&outcome.answers) {
        assert_eq!(answer["error"], *error, "job {job}: expected the error {error}, got {answer}");
        assert!(
            answer["message"].as_str().is_some_and(|m| m.contains(part)),
            "job {job}: expected {part:?} in the error message, got {answer}"
        );
    }
    assert!(outcome.names().is_empty());
}

/// Checks adaptive_clip on a matrix, a vector and a scalar, and with limits of 0.
#[test]
fn adaptive_clip_of_units() {
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("g", dtype, &[2, 2], &[3.0, 4.0, 0.003, 0.004])
            .floats("w", dtype, &[2, 2], &[3.0, -4.0, 3.0, -4.0])
            .floats("gv", dtype, &[2], &[3.0, 4.0])
            .floats("wv", dtype, &[2], &[0.0, 0.0])
            .floats("one", dtype, &[], &[2.0])
            .floats("nan", dtype, &[1], &[f64::NAN])
            .run_text(
                json!([
                    {"id": "0", "op": "adaptive_clip", "inputs": {"grads": ["g", "gv", "one"], "params": ["w", "wv", "one"]},
                        "outputs": {"grads": ["0.g", "0.v", "0.one"]}},
                    {"id": "1", "op": "adaptive_clip", "inputs": {"grads": ["g"], "params": ["w"]},
                        "attrs": {"clipping": 0}, "outputs": {"grads": ["1.g"]}},
                    {"id": "2", "op": "adaptive_clip", "inputs": {"grads": ["g"], "params": []}, "outputs": {"grads": ["2"]}},
                    {"id": "3", "op": "adaptive_clip", "inputs": {"grads": ["g"], "params": ["gv"]}, "outputs": {"grads": ["3"]}},
                    {"id": "4", "op": "adaptive_clip", "inputs": {"grads": ["nan"], "params": ["nan"]}, "outputs": {"grads": ["4"]}},
                    {"id": "5", "op": "adaptive_clip", "inputs": {"grads": ["g"], "params": ["w"]},
                        "attrs": {"eps": -1}, "outputs": {"grads": ["5"]}},
                ])
                .to_string()
                .as_bytes(),
            );
        outcome.answered();
        // The weights of each row have the norm 5, so the gradient of each row is limited to the norm 0.01 * 5. The
        // gradient of the second row is within this limit.
        assert_close(&outcome.values("0.g"), &[0.03, 0.04, 0.003, 0.004], 2.0 * tolerance);
        assert_close(&outcome.values("0.v"), &[6e-6, 8e-6], 2.0 * tolerance.max(1e-2 * f64::from(dtype == Dtype::F16)));
        assert_close(&outcome.values("0.one"), &[0.02], 2.0 * tolerance);
        assert_eq!(outcome.values("1.g"), [0.0; 4]);
        for (answer, error) in
            outcome.answers[2..].iter().zip(["ShapeMismatch", "ShapeMismatch", "NonFiniteInput", "InvalidArgument"])
        {
            assert_eq!(answer["error"], error, "expected the error {error}, got {answer}");
        }
    }
}
