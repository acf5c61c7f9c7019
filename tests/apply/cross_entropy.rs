//! Tests of cross_entropy.

use crate::program::{Apply, FLOATS, assert_close};
use safetensors::Dtype;
use serde_json::json;

#[test]
fn every_type_and_option() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let ln_2 = 2f64.ln();
    // Row 1 is ignored. In the other rows, two logits are equal and the third is -inf.
    let logits = [0.0, 0.0, -inf, nan, nan, nan, 1.0, -inf, 1.0];
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[3, 3], &logits)
            .integers("t", &[3], &[0, -100, 2])
            .integers("padding", &[3], &[-100; 3])
            .floats("w", Dtype::BF16, &[3], &[1.0, 5.0, 3.0])
            .run(&[
                json!(["cross_entropy", {"logits": "x", "target": "t"}, {}, ["loss", "dlogits"]]),
                json!(["cross_entropy", {"logits": "x", "target": "t"}, {"reduction": "none"}, ["loss"]]),
                json!(["cross_entropy", {"logits": "x", "target": "t", "weight": "w"}, {"reduction": "sum"}, ["loss"]]),
                json!(["cross_entropy", {"logits": "x", "target": "t", "weight": "w"}, {}, ["dlogits"]]),
                json!(["cross_entropy", {"logits": "x", "target": "padding"}, {}, ["loss", "dlogits"]]),
                json!(["cross_entropy", {"logits": "x", "target": "t"}, {"z_loss": 0.5, "softcap": 30}, ["loss"]]),
                json!(["cross_entropy", {"logits": "x", "target": "t"}, {"label_smoothing": 0.1}, ["loss"]]),
                json!(["cross_entropy", {"logits": "x", "target": "t"}, {"ignore_index": 0.0}, ["loss"]]),
            ]);
        outcome.answered();
        let wide = if dtype == Dtype::F64 { Dtype::F64 } else { Dtype::F32 };
        let loss_tolerance = if dtype == Dtype::F64 { 1e-15 } else { 1.2e-7 };
        assert_eq!((outcome.tensor("0.loss").0, outcome.tensor("0.loss").1), (wide, vec![]));
        assert_eq!((outcome.tensor("0.dlogits").0, outcome.tensor("0.dlogits").1), (dtype, vec![3, 3]));
        assert_close(&outcome.values("0.loss"), &[ln_2], loss_tolerance);
        let dlogits = [-0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0, -0.25];
        assert_close(&outcome.values("0.dlogits"), &dlogits, tolerance);
        assert_eq!(outcome.tensor("1.loss").1, [3]);
        assert_close(&outcome.values("1.loss"), &[ln_2, 0.0, ln_2], loss_tolerance);
        assert_close(&outcome.values("2.loss"), &[4.0 * ln_2], loss_tolerance);
        let weighted = [-0.125, 0.125, 0.0, 0.0, 0.0, 0.0, 0.375, 0.0, -0.375];
        assert_close(&outcome.values("3.dlogits"), &weighted, tolerance);
        assert_close(&outcome.values("4.loss"), &[0.0], 0.0);
        assert_close(&outcome.values("4.dlogits"), &[0.0; 9], 0.0);
        let capped = 30.0 * (1.0f64 / 30.0).tanh();
        let z = 0.25 * (ln_2.powi(2) + (capped + ln_2).powi(2));
        assert_close(&outcome.values("5.loss"), &[ln_2 + z], 4.0 * loss_tolerance);
        assert_close(&outcome.values("6.loss"), &[inf], 0.0);
        assert_eq!(outcome.answers[7]["error"], "InvalidArgument");
        assert_eq!(outcome.answers[7]["row"], 1);
    }
}

#[test]
fn refusals() {
    let outcome = Apply::new()
        .f32("x", &[2, 3], &[0.0; 6])
        .f32("cube", &[1, 2, 3], &[0.0; 6])
        .f32("w", &[2], &[1.0; 2])
        .integers("t", &[2], &[0, 3])
        .integers("one", &[1], &[0])
        .run(&[
            json!(["cross_entropy", {"logits": "x", "target": "t"}, {}, ["loss"]]),
            json!(["cross_entropy", {"logits": "cube", "target": "t"}, {}, ["loss"]]),
            json!(["cross_entropy", {"logits": "x", "target": "one"}, {}, ["loss"]]),
            json!(["cross_entropy", {"logits": "x", "target": "t", "weight": "w"}, {}, ["loss"]]),
            json!(["cross_entropy", {"logits": "x", "target": "x"}, {}, ["loss"]]),
            json!(["cross_entropy", {"logits": "t", "target": "t"}, {}, ["loss"]]),
            json!(["cross_entropy", {"logits": "x"}, {}, ["loss"]]),
            json!(["cross_entropy", {"logits": "x", "target": "t"}, {"reduction": "batchmean"}, ["loss"]]),
            json!(["cross_entropy", {"logits": "x", "target": "t"}, {"label_smoothing": 1.5}, ["loss"]]),
            json!(["cross_entropy", {"logits": "x", "target": "t"}, {"z_loss": "nan"}, ["loss"]]),
        ]);
    outcome.answered();
    let expected = [
        ("InvalidArgument", "target is 3 in row 1"),
        ("ShapeMismatch", "it must have 2 axes: rows and classes"),
        ("ShapeMismatch", "target has shape [1]; [2] is needed"),
        ("ShapeMismatch", "weight has shape [2]; [3] is needed"),
        ("UnsupportedDType", "target is F32; it must be I64"),
        ("UnsupportedDType", "logits is I64"),
        ("InvalidArgument", "`target` is missing"),
        ("InvalidArgument", "reduction is \"batchmean\""),
        ("InvalidArgument", "label_smoothing is 1.5"),
        ("InvalidArgument", "z_loss is NaN"),
    ];
    for (answer, (error, part)) in outcome.answers.iter().zip(expected) {
        assert_eq!(answer["error"], error, "expected the error {error}, got {answer}");
        assert!(
            answer["message"].as_str().unwrap_or("").contains(part),
            "expected {part:?} in the error message, got {answer}"
        );
    }
    assert_eq!(outcome.answers[0]["row"], 1);
}
