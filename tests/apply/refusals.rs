//! Tests of rejected jobs: their errors, and the order of the checks.

use crate::program::{Apply, Outcome};
use safetensors::Dtype;
use serde_json::{Value, json};

fn fixture() -> Apply {
    let nan = f64::NAN;
    Apply::new()
        .f32("x", &[2, 4], &[0.0; 8])
        .f32("wide", &[2, 3], &[0.0; 6])
        .f32("row", &[4], &[0.0; 4])
        .f32("row3", &[3], &[0.0; 3])
        .f32("scalar", &[], &[0.0])
        .f32("nine", &[1; 9], &[0.0])
        .f32("broken", &[2, 4], &[nan; 8])
        .f32("empty", &[2, 0], &[])
        .floats("half", Dtype::F16, &[2, 4], &[0.0; 8])
        .floats("long", Dtype::BF16, &[1, (1 << 21) + 1], &vec![0.0; (1 << 21) + 1])
        .bytes("keep", Dtype::BOOL, &[2, 4], &[1; 8])
        .bytes("bytes", Dtype::U8, &[2, 4], &[1; 8])
        .bytes("nobody", Dtype::BOOL, &[2, 4], &[0; 8])
        .bytes("enlarging", Dtype::BOOL, &[3, 2, 4], &[1; 24])
        .bytes("stretching", Dtype::BOOL, &[2, 4, 1], &[1; 8])
        .bytes("int8", Dtype::I8, &[2, 4], &[1; 8])
        .integers("positions", &[2], &[0, 1])
        .integers("positions3", &[3], &[0, 1, 2])
        .integers("positions21", &[2, 1], &[0, 1])
        .integers("ints", &[2, 4], &[0; 8])
}

/// Runs cases of the form `[op, inputs, attrs, error, part of the message]`.
fn check(cases: &[Value]) -> Outcome {
    let jobs: Vec<_> = cases
        .iter()
        .map(|case| json!([case[0], case[1], case[2], [if case[0] == "sample" { "tokens" } else { "y" }]]))
        .collect();
    let outcome = fixture().run(&jobs);
    outcome.answered();
    for (case, answer) in cases.iter().zip(&outcome.answers) {
        assert_eq!(answer["ok"], false, "{case} must be rejected");
        assert_eq!(answer["error"], case[3], "{case}: expected the error {}, got {answer}", case[3]);
        let (message, part) = (answer["message"].as_str().unwrap_or(""), case[4].as_str().unwrap_or(""));
        assert!(message.contains(part), "{case}: expected {part:?} in the error message, got {answer}");
    }
    assert!(outcome.names().is_empty());
    outcome
}

#[test]
fn attribute_values() {
    let invalid =
        |op: &str, inputs: Value, attrs: Value, part: &str| json!([op, inputs, attrs, "InvalidArgument", part]);
    let x = json!({"x": "x"});
    let logits = json!({"logits": "x"});
    let rope = json!({"x": "x", "positions": "positions"});
    let mut cases = vec![
        invalid("softmax", json!({"x": "row"}), json!({"causal": true}), "causal"),
        invalid("softmax", x.clone(), json!({"causal": true, "axis": 0}), "causal"),
        invalid("softmax", x.clone(), json!({"causal": 1}), "causal is 1; it must be true or false"),
        invalid("softmax", x.clone(), json!({"axis": 0.5}), "axis is 0.5"),
        invalid("softmax", x.clone(), json!({"axis": "0"}), "axis is \"0\""),
        invalid("softmax", x.clone(), json!({"scale": true}), "scale is true; it must be a number"),
        invalid("softmax", x.clone(), json!({"scale": "1"}), "scale is \"1\""),
        invalid(
            "softmax",
            x.clone(),
            json!({"fully_masked": "ones"}),
            "it must be \"zeros\" or \"uniform\" or \"error\"",
        ),
        invalid("softmax", x.clone(), json!({"fully_masked": 0}), "fully_masked is 0"),
        invalid("softmax", json!({"x": "long"}), json!({}), "2097152"),
        invalid("logsumexp", json!({"x": "long"}), json!({}), "2097152"),
        invalid("logsumexp", x.clone(), json!({"keepdim": "true"}), "keepdim"),
        invalid("rms_norm", x.clone(), json!({"rounding": "twice"}), "it must be \"once\" or \"before_weight\""),
        invalid("group_norm", x.clone(), json!({}), "the attribute `groups` is missing"),
        invalid("group_norm", x.clone(), json!({"groups": 0}), "groups is 0"),
        invalid("group_norm", x.clone(), json!({"groups": 1.5}), "groups is 1.5"),
        invalid("group_norm", x.clone(), json!({"groups": 2, "eps": "nan"}), "eps"),
        invalid("l2_normalize", x.clone(), json!({"eps": -1}), "eps"),
        invalid("l2_normalize", x.clone(), json!({"axis": 2}), "axis"),
        invalid("rope", rope.clone(), json!({"interleaved": "no"}), "interleaved"),
        invalid("sample", json!({"logits": "long"}), json!({}), "2097152"),
        invalid("sample", logits.clone(), json!({"top_k": 1.5}), "top_k is 1.5"),
        invalid("sample", logits.clone(), json!({"top_k": "inf"}), "top_k is \"inf\"; it must be a whole number"),
        invalid(
            "sample",
            logits.clone(),
            json!({"draws": 1e18}),
            "draws is 1e+18; it must be a whole number in 1 ..= 134217728",
        ),
        invalid(
            "sample",
            logits.clone(),
            json!({"profile": "hf", "xtc_probability": 0.5}),
            "it must be left unset: the hf profile does not support it",
        ),
        invalid("sample", logits.clone(), json!({"profile": "hf", "temperature": 0}), "temperature is 0"),
        invalid("sample", logits.clone(), json!({"typical_p": 0}), "typical_p is 0"),
        invalid("sample", logits.clone(), json!({"repetition_penalty": 0}), "repetition_penalty is 0"),
        invalid("sample", json!({"logits": "x", "history": "ints"}), json!({"top_k": 1, "profile": 1}), "profile"),
        invalid("sample", logits.clone(), json!({"profile": "gpt"}), "profile is \"gpt\"; it must be \"evenkeel\" or"),
    ];
    let numbers = [
        ("softmax", "axis", vec![json!(2), json!(-3), json!(1e30), json!(-1e300)]),
        ("log_softmax", "axis", vec![json!(2), json!(i64::MIN), json!(u64::MAX)]),
        ("logsumexp", "axis", vec![json!(2), json!(-3)]),
        ("softmax", "scale", vec![json!("inf"), json!("-inf"), json!("nan")]),
        ("softmax", "softcap", vec![json!(0), json!(-1), json!("inf"), json!("nan")]),
        ("rms_norm", "eps", vec![json!(-1e-9), json!("inf"), json!("nan")]),
        ("rms_norm", "weight_offset", vec![json!("inf"), json!("nan")]),
        ("layer_norm", "eps", vec![json!(-1), json!("inf"), json!("nan")]),
        ("rope", "theta", vec![json!(0), json!(-1), json!("inf"), json!("nan")]),
        ("sample", "temperature", vec![json!(-0.1), json!("inf"), json!("nan")]),
        ("sample", "top_k", vec![json!(0), json!(-1)]),
        ("sample", "top_p", vec![json!(0), json!(-0.5), json!(1.2), json!("nan")]),
        ("sample", "min_p", vec![json!(-0.5), json!(1.5), json!("nan")]),
        ("sample", "seed", vec![json!(-1), json!(18446744073709551616.0), json!(0.5), json!("nan")]),
        ("sample", "draws", vec![json!(0), json!(-1), json!(2.5)]),
    ];
    for (op, attr, values) in numbers {
        let inputs = match op {
            "rope" => &rope,
            "sample" => &logits,
            _ => &x,
        };
        cases.extend(values.into_iter().map(|value| invalid(op, inputs.clone(), json!({attr: value}), attr)));
    }
    check(&cases);
}

#[test]
fn dtypes() {
    let refused = |op: &str, inputs: Value, part: &str| json!([op, inputs, {}, "UnsupportedDType", part]);
    check(&[
        refused("exp", json!({"x": "ints"}), "x is I64; it must be F64, F32, F16 or BF16"),
        refused("exp", json!({"x": "keep"}), "x is BOOL"),
        refused("softmax", json!({"x": "int8"}), "x is I8"),
        refused("softmax", json!({"x": "x", "mask": "ints"}), "mask is I64; it must be BOOL, U8"),
        refused("softmax", json!({"x": "x", "mask": "int8"}), "mask is I8"),
        refused("softmax", json!({"x": "x", "dy": "ints"}), "dy is I64"),
        refused("log_softmax", json!({"x": "x", "dy": "half"}), "dy is F16; it must be F32, x's type"),
        refused("rms_norm", json!({"x": "x", "weight": "ints"}), "weight is I64"),
        refused("rms_norm", json!({"x": "x", "residual": "half"}), "residual is F16; it must be F32, like x"),
        refused("layer_norm", json!({"x": "x", "bias": "bytes"}), "bias is U8"),
        refused("rms_norm", json!({"x": "x", "dy": "half"}), "dy is F16; it must be F32, like x"),
        refused("layer_norm", json!({"x": "half", "dy": "x"}), "dy is F32; it must be F16, like x"),
        refused("group_norm", json!({"x": "x", "weight": "ints"}), "weight is I64"),
        refused("l2_normalize", json!({"x": "ints"}), "x is I64"),
        refused("rope", json!({"x": "x", "positions": "row"}), "positions is F32; it must be I64"),
        refused("sample", json!({"logits": "ints"}), "logits is I64"),
        refused("sample", json!({"logits": "x", "mask": "ints"}), "mask is I64"),
    ]);
}

#[test]
fn shapes() {
    let refused = |op: &str, inputs: Value, part: &str| json!([op, inputs, {}, "ShapeMismatch", part]);
    check(&[
        refused("softmax", json!({"x": "scalar"}), "x has shape []"),
        refused("logsumexp", json!({"x": "scalar"}), "at least 1 axes"),
        refused("softmax", json!({"x": "nine"}), "9 axes; expected at most 8"),
        refused("softmax", json!({"x": "x", "mask": "row3"}), "mask has shape [3]; it must broadcast to [2, 4]"),
        refused("softmax", json!({"x": "x", "mask": "enlarging"}), "mask has shape [3, 2, 4]"),
        refused("softmax", json!({"x": "x", "mask": "stretching"}), "mask has shape [2, 4, 1]"),
        refused("softmax", json!({"x": "row", "mask": "keep"}), "mask has shape [2, 4]"),
        refused("softmax", json!({"x": "x", "dy": "row"}), "dy has shape [4]; [2, 4] is needed"),
        refused("rms_norm", json!({"x": "scalar"}), "x has shape []"),
        refused("rms_norm", json!({"x": "x", "weight": "row3"}), "weight has shape [3]; [4] is needed"),
        refused("rms_norm", json!({"x": "x", "weight": "x"}), "weight has shape [2, 4]; [4] is needed"),
        refused("rms_norm", json!({"x": "x", "residual": "row"}), "residual has shape [4]; [2, 4] is needed"),
        refused("layer_norm", json!({"x": "scalar"}), "x has shape []"),
        refused("layer_norm", json!({"x": "x", "bias": "scalar"}), "bias has shape []; [4] is needed"),
        refused("layer_norm", json!({"x": "x", "dy": "row"}), "dy has shape [4]; [2, 4] is needed"),
        refused("group_norm", json!({"x": "row"}), "at least 2 axes"),
        refused("group_norm", json!({"x": "x", "bias": "row3"}), "bias has shape [3]; [4] is needed"),
        json!(["group_norm", {"x": "x"}, {"groups": 3}, "ShapeMismatch", "x has 4 channels; expected a multiple of the 3 groups"]),
        refused("l2_normalize", json!({"x": "scalar"}), "x has shape []"),
        refused("rope", json!({"x": "row", "positions": "positions"}), "at least 2 axes"),
        refused(
            "rope",
            json!({"x": "wide", "positions": "positions"}),
            "x has shape [2, 3]; its last axis must have an even length",
        ),
        refused("rope", json!({"x": "x", "positions": "positions3"}), "positions has shape [3]; [2] is needed"),
        refused("rope", json!({"x": "x", "positions": "positions21"}), "positions has shape [2, 1]"),
        refused("sample", json!({"logits": "row"}), "logits has shape [4]; it must have 2 axes"),
        refused("sample", json!({"logits": "scalar"}), "logits has shape []"),
        refused("sample", json!({"logits": "x", "mask": "row3"}), "mask has shape [3]"),
    ]);
}

#[test]
fn earlier_checks_go_first() {
    check(&[
        // Names are checked first.
        json!(["softmax", {"x": "ints", "nope": "x"}, {}, "InvalidArgument", "nope"]),
        json!(["softmax", {"x": "ints"}, {"nope": 1}, "InvalidArgument", "nope"]),
        // Types are checked before shapes.
        json!(["softmax", {"x": "scalar", "mask": "ints"}, {}, "UnsupportedDType", "mask"]),
        json!(["softmax", {"x": "x", "mask": "row3", "dy": "half"}, {}, "UnsupportedDType", "dy"]),
        json!(["rms_norm", {"x": "x", "weight": "row3", "residual": "half"}, {}, "UnsupportedDType", "residual"]),
        json!(["rope", {"x": "wide", "positions": "row"}, {}, "UnsupportedDType", "positions"]),
        json!(["sample", {"logits": "row", "mask": "ints"}, {}, "UnsupportedDType", "mask"]),
        // Shapes are checked before attribute values.
        json!(["softmax", {"x": "x", "mask": "row3"}, {"axis": 9}, "ShapeMismatch", "mask"]),
        json!(["softmax", {"x": "x", "mask": "row3"}, {"scale": "nan"}, "ShapeMismatch", "mask"]),
        json!(["softmax", {"x": "x", "dy": "row"}, {"scale": "nan"}, "ShapeMismatch", "dy"]),
        json!(["softmax", {"x": "x", "mask": "row3"}, {"fully_masked": 3}, "ShapeMismatch", "mask"]),
        json!(["layer_norm", {"x": "x", "weight": "row3"}, {"eps": -1}, "ShapeMismatch", "weight"]),
        json!(["rope", {"x": "wide", "positions": "positions"}, {"theta": 0}, "ShapeMismatch", "x"]),
        json!(["sample", {"logits": "x", "mask": "row3"}, {"top_p": 0}, "ShapeMismatch", "mask"]),
        json!(["sample", {"logits": "row"}, {"draws": 0}, "ShapeMismatch", "logits"]),
        // Attribute values are checked before the data.
        json!(["sample", {"logits": "empty"}, {"top_k": 0}, "InvalidArgument", "top_k"]),
        json!(["sample", {"logits": "broken"}, {"draws": 0}, "InvalidArgument", "draws"]),
        json!(["softmax", {"x": "x", "mask": "nobody"}, {"fully_masked": "error", "softcap": 0}, "InvalidArgument", "softcap"]),
        // Empty rows are reported first, then NaN, then fully masked rows.
        json!(["sample", {"logits": "empty"}, {}, "EmptyInput", "empty"]),
        json!(["sample", {"logits": "broken"}, {}, "NonFiniteInput", "row 0 of the input has NaN at index 0"]),
        json!(["sample", {"logits": "broken", "mask": "nobody"}, {}, "EmptySupport", "row 0"]),
        json!(["softmax", {"x": "x", "mask": "nobody"}, {"fully_masked": "error"}, "FullyMasked", "row 0"]),
    ]);
}

#[test]
fn tensors_without_elements_but_endless_rows() {
    let header = br#"{"x":{"dtype":"F32","shape":[1099511627776,0],"data_offsets":[0,0]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    let jobs = br#"[{"id":"a","op":"logsumexp","inputs":{"x":"x"},"outputs":{"y":"a"}},
                    {"id":"b","op":"softmax","inputs":{"x":"x"},"outputs":{"y":"b"}},
                    {"id":"c","op":"rms_norm","inputs":{"x":"x"},"outputs":{"y":"c"}},
                    {"id":"d","op":"exp","inputs":{"x":"x"},"outputs":{"y":"d"}}]"#;
    let outcome = Apply::new().run_files(jobs, &file);
    outcome.answered();
    assert!(
        outcome.answers[..3].iter().all(|answer| answer["error"] == "ShapeMismatch"),
        "reductions of shape [2^40, 0]: expected three ShapeMismatch errors, got {:?}",
        outcome.answers
    );
    assert_eq!(outcome.tensor("d").1, [1 << 40, 0]);
}
