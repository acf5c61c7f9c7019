//! Tests of the loss scale after each step.

use crate::program::Apply;
use safetensors::Dtype;
use serde_json::json;

#[test]
fn scales_of_steps() {
    let outcome = Apply::new()
        .bytes("found", Dtype::U8, &[6], &[0, 0, 1, 0, 7, 0])
        .bytes("none", Dtype::U8, &[0], &[])
        .bytes("table", Dtype::U8, &[1, 1], &[0])
        .f32("floats", &[1], &[0.0])
        .run(&[
            json!(["grad_scaler", {"found_inf": "found"}, {"init_scale": 8, "growth_interval": 2}, ["scale"]]),
            json!(["grad_scaler", {"found_inf": "found"}, {}, ["scale"]]),
            json!(["grad_scaler", {"found_inf": "none"}, {}, ["scale"]]),
            json!(["grad_scaler", {"found_inf": "table"}, {}, ["scale"]]),
            json!(["grad_scaler", {"found_inf": "floats"}, {}, ["scale"]]),
            json!(["grad_scaler", {"found_inf": "found"}, {"growth_factor": 0.5}, ["scale"]]),
            json!(["grad_scaler", {"found_inf": "found"}, {"backoff_factor": 1.5}, ["scale"]]),
            json!(["grad_scaler", {"found_inf": "found"}, {"growth_interval": 0}, ["scale"]]),
        ]);
    assert_eq!((outcome.tensor("0.scale").0, outcome.tensor("0.scale").1), (Dtype::F64, vec![6]));
    assert_eq!(outcome.values("0.scale"), [8.0, 16.0, 8.0, 8.0, 4.0, 4.0]);
    assert_eq!(outcome.values("1.scale"), [65536.0, 65536.0, 32768.0, 32768.0, 16384.0, 16384.0]);
    assert_eq!(outcome.values("2.scale"), [0.0; 0]);
    assert_eq!(outcome.answers[3]["error"], "ShapeMismatch");
    assert_eq!(outcome.answers[4]["error"], "UnsupportedDType");
    for answer in &outcome.answers[5..] {
        assert_eq!(answer["error"], "InvalidArgument", "expected the error InvalidArgument, got {answer}");
    }
}
