//! Tests of rms_norm, layer_norm and related norms.

use crate::program::{Apply, FLOATS, assert_close};
use half::bf16;
use safetensors::Dtype;
use serde_json::json;

const X: [f64; 8] = [3.0, -4.0, 0.5, 1.0, 1e3, 1.0, -2.0, 8.0];
const WEIGHT: [f64; 4] = [0.5, 2.0, -1.0, 96.5];
const BIAS: [f64; 4] = [1.0, 0.0, -0.25, 8.0];

fn rms_norm(x: &[f64], eps: f64, weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let normalise = |row: &[f64]| {
        let rms = (row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64 + eps).sqrt();
        row.iter().enumerate().map(|(i, x)| x / rms * weight(i)).collect::<Vec<_>>()
    };
    x.chunks(4).flat_map(normalise).collect()
}

fn layer_norm(x: &[f64], eps: f64, weight: impl Fn(usize) -> f64, bias: impl Fn(usize) -> f64) -> Vec<f64> {
    let normalise = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / 4.0;
        let deviation = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4.0 + eps).sqrt();
        row.iter().enumerate().map(|(i, x)| (x - mean) / deviation * weight(i) + bias(i)).collect::<Vec<_>>()
    };
    x.chunks(4).flat_map(normalise).collect()
}

#[test]
fn rms_norm_in_every_type() {
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 4], &X)
            .floats("weight", Dtype::BF16, &[4], &WEIGHT)
            .run(&[
                json!(["rms_norm", {"x": "x"}, {}, ["y"]]),
                json!(["rms_norm", {"x": "x", "weight": "weight"}, {"eps": 0.5}, ["y"]]),
                json!(["rms_norm", {"x": "x", "weight": "weight"}, {"weight_offset": 1, "rounding": "once"}, ["y"]]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.y").0, outcome.tensor("0.y").1), (dtype, vec![2, 4]));
        assert_close(&outcome.values("0.y"), &rms_norm(&X, 1e-6, |_| 1.0), tolerance);
        assert_close(&outcome.values("1.y"), &rms_norm(&X, 0.5, |i| WEIGHT[i]), tolerance);
        assert_close(&outcome.values("2.y"), &rms_norm(&X, 1e-6, |i| WEIGHT[i] + 1.0), tolerance);
    }
}

#[test]
fn rms_norm_linear_in_every_type() {
    let matrix = [1.0, 0.5, -2.0, 0.25, 0.0, 1.0, 0.0, 0.0, -1.0, 1.5, 4.0, -0.5];
    let products = |n: &[f64], bias: &[f64; 3]| -> Vec<f64> {
        let dot = |n: &[f64], row: &[f64]| n.iter().zip(row).map(|(n, m)| n * m).sum::<f64>();
        n.chunks(4).flat_map(|n| (0..3).map(move |o| dot(n, &matrix[4 * o..][..4]) + bias[o])).collect()
    };
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 4], &X)
            .floats("matrix", dtype, &[3, 4], &matrix)
            .floats("weight", Dtype::BF16, &[4], &WEIGHT)
            .floats("bias", Dtype::F32, &[3], &BIAS[..3])
            .run(&[
                json!(["rms_norm_linear", {"x": "x", "matrix": "matrix"}, {"eps": 0.5}, ["y"]]),
                json!([
                    "rms_norm_linear",
                    {"x": "x", "matrix": "matrix", "weight": "weight", "bias": "bias"},
                    {"rounded": true},
                    ["y"]
                ]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.y").0, outcome.tensor("0.y").1), (dtype, vec![2, 3]));
        let plain = products(&rms_norm(&X, 0.5, |_| 1.0), &[0.0; 3]);
        assert_close(&outcome.values("0.y"), &plain, 8.0 * tolerance);
        let weighted = products(&rms_norm(&X, 1e-6, |i| WEIGHT[i]), &[1.0, 0.0, -0.25]);
        assert_close(&outcome.values("1.y"), &weighted, 64.0 * tolerance);
    }
}

#[test]
fn rounding_before_the_weight() {
    let outcome = Apply::new()
        .floats("x", Dtype::BF16, &[2, 4], &X)
        .floats("weight", Dtype::F64, &[4], &WEIGHT)
        .run(&[json!(["rms_norm", {"x": "x", "weight": "weight"}, {"rounding": "before_weight"}, ["y"]])])
        .all_ok();
    let normalised = rms_norm(&X, 1e-6, |_| 1.0);
    let twice = normalised.iter().zip(WEIGHT.iter().cycle()).map(|(v, w)| f64::from(bf16::from_f64(*v)) * w);
    let twice: Vec<f64> = twice.map(|v| bf16::from_f64(v).into()).collect();
    assert_eq!(outcome.values("0.y"), twice);
}

#[test]
fn the_residual_is_added_first() {
    let residual = [1.0, 1.0, 0.25, -3.0, 24.0, 0.5, 2.0, 8.0];
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 1, 4], &X)
            .floats("residual", dtype, &[2, 1, 4], &residual)
            .run(&[
                json!(["rms_norm", {"x": "x", "residual": "residual"}, {}, ["y", "residual"]]),
                json!(["rms_norm", {"x": "x", "residual": "residual"}, {}, ["residual"]]),
                json!(["rms_norm", {"x": "x", "residual": "residual"}, {}, ["y"]]),
            ])
            .all_ok();
        let sum = outcome.values("0.residual");
        let exact: Vec<f64> = X.iter().zip(residual).map(|(x, r)| x + r).collect();
        assert_eq!(sum, exact);
        assert_eq!(outcome.tensor("0.residual").1, [2, 1, 4]);
        assert_close(&outcome.values("0.y"), &rms_norm(&sum, 1e-6, |_| 1.0), tolerance);
        assert_eq!(outcome.values("1.residual"), sum);
        assert_eq!(outcome.values("2.y"), outcome.values("0.y"));
        assert_eq!(outcome.names(), ["0.residual", "0.y", "1.residual", "2.y"]);
    }
}

#[test]
fn layer_norm_in_every_type() {
    for (dtype, tolerance) in FLOATS {
        // The tolerances are relative to the result. The last job adds a bias to the weighted row, which loses digits,
        // so its tolerance is larger.
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 4], &X)
            .floats("weight", Dtype::F16, &[4], &WEIGHT)
            .floats("bias", Dtype::F32, &[4], &BIAS)
            .run(&[
                json!(["layer_norm", {"x": "x"}, {}, ["y"]]),
                json!(["layer_norm", {"x": "x", "weight": "weight"}, {"eps": 0.0}, ["y"]]),
                json!(["layer_norm", {"x": "x", "bias": "bias"}, {"eps": 2}, ["y"]]),
                json!(["layer_norm", {"x": "x", "weight": "weight", "bias": "bias"}, {}, ["y"]]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.y").0, outcome.tensor("0.y").1), (dtype, vec![2, 4]));
        let (ones, zeros) = (|_| 1.0, |_| 0.0);
        assert_close(&outcome.values("0.y"), &layer_norm(&X, 1e-5, ones, zeros), 4.0 * tolerance);
        assert_close(&outcome.values("1.y"), &layer_norm(&X, 0.0, |i| WEIGHT[i], zeros), 4.0 * tolerance);
        assert_close(&outcome.values("2.y"), &layer_norm(&X, 2.0, ones, |i| BIAS[i]), 4.0 * tolerance);
        assert_close(&outcome.values("3.y"), &layer_norm(&X, 1e-5, |i| WEIGHT[i], |i| BIAS[i]), 8.0 * tolerance);
    }
}

/// Computes the gradient of `sum(of(values) * dy)` by finite differences.
fn differences(values: &[f64], dy: &[f64], of: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let moved = |i: usize, by: f64| {
        let mut values = values.to_vec();
        values[i] += by;
        of(&values).iter().zip(dy).map(|(y, dy)| y * dy).sum::<f64>()
    };
    (0..values.len()).map(|i| (moved(i, 1e-4) - moved(i, -1e-4)) / 2e-4).collect()
}

/// Fails unless every error is at most `part` times the largest expected magnitude.
fn assert_near(got: &[f64], expected: &[f64], part: f64) {
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!(
            (got - expected).abs() <= part * largest,
            "gradient of a norm: expected {expected} with an error of at most {:e}, got {got}",
            part * largest
        );
    }
}

#[test]
fn gradients_in_every_type() {
    let (x, dy) = ([3.0, -4.0, 0.5, 1.0, 2.0, 1.0, -2.0, 8.0], [1.0, 0.5, -2.0, 0.25, 4.0, -1.0, 0.0, 0.75]);
    let weight = [0.5, 2.0, -1.0, 1.5];
    for (dtype, tolerance) in FLOATS {
        let inputs = json!({"x": "x", "dy": "dy", "weight": "weight"});
        let with_bias = json!({"x": "x", "dy": "dy", "weight": "weight", "bias": "weight"});
        let with_residual = json!({"x": "zeros", "residual": "x", "dy": "dy", "weight": "weight"});
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 4], &x)
            .floats("zeros", dtype, &[2, 4], &[0.0; 8])
            .floats("dy", dtype, &[2, 4], &dy)
            .floats("weight", Dtype::F32, &[4], &weight)
            .run(&[
                json!(["rms_norm", inputs, {"eps": 0.5, "weight_offset": 1}, ["dx", "dweight"]]),
                json!(["layer_norm", with_bias, {"eps": 0.5}, ["y", "dx", "dweight", "dbias"]]),
                json!(["rms_norm", with_residual, {"eps": 0.5, "weight_offset": 1}, ["dweight", "dx", "residual"]]),
                json!(["layer_norm", {"x": "x", "dy": "dy"}, {}, ["dx"]]),
            ])
            .all_ok();
        // The finite differences have an error of about 1e-8 of the largest magnitude.
        let near = |name: &str, expected: Vec<f64>| {
            assert_near(&outcome.values(name), &expected, 4.0 * tolerance + 1e-7);
        };
        assert_eq!((outcome.tensor("0.dx").0, outcome.tensor("0.dx").1), (dtype, vec![2, 4]));
        assert_eq!((outcome.tensor("0.dweight").0, outcome.tensor("0.dweight").1), (dtype, vec![4]));
        near("0.dx", differences(&x, &dy, |x| rms_norm(x, 0.5, |i| weight[i] + 1.0)));
        near("0.dweight", differences(&weight, &dy, |w| rms_norm(&x, 0.5, |i| w[i] + 1.0)));
        near("1.dx", differences(&x, &dy, |x| layer_norm(x, 0.5, |i| weight[i], |i| weight[i])));
        near("1.dweight", differences(&weight, &dy, |w| layer_norm(&x, 0.5, |i| w[i], |i| weight[i])));
        assert_eq!(outcome.values("1.dbias"), [5.0, -0.5, -2.0, 1.0]);
        assert_eq!(outcome.values("2.dx"), outcome.values("0.dx"));
        assert_eq!(outcome.values("2.dweight"), outcome.values("0.dweight"));
        near("3.dx", differences(&x, &dy, |x| layer_norm(x, 1e-5, |_| 1.0, |_| 0.0)));
    }
}

#[test]
fn group_norm_in_every_type() {
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[1, 4, 1, 2], &X)
            .floats("weight", Dtype::F16, &[4], &WEIGHT)
            .floats("bias", Dtype::F32, &[4], &BIAS)
            .run(&[
                json!(["group_norm", {"x": "x"}, {"groups": 2}, ["y"]]),
                json!(["group_norm", {"x": "x", "weight": "weight", "bias": "bias"}, {"groups": 2, "eps": 2}, ["y"]]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.y").0, outcome.tensor("0.y").1), (dtype, vec![1, 4, 1, 2]));
        // Each group has two channels of two elements, so it is a row of four.
        assert_close(&outcome.values("0.y"), &layer_norm(&X, 1e-5, |_| 1.0, |_| 0.0), 4.0 * tolerance);
        let normal = layer_norm(&X, 2.0, |_| 1.0, |_| 0.0);
        let expected: Vec<f64> = (0..8).map(|i| normal[i] * WEIGHT[i / 2] + BIAS[i / 2]).collect();
        assert_near(&outcome.values("1.y"), &expected, 8.0 * tolerance);
    }
}

#[test]
fn l2_normalize_along_any_axis() {
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 2], &[3.0, -4.0, 4.0, 3.0])
            .floats("small", dtype, &[1, 2], &[0.0, 6e-8])
            .run(&[
                json!(["l2_normalize", {"x": "x"}, {}, ["y"]]),
                json!(["l2_normalize", {"x": "x"}, {"axis": 0, "eps": 50}, ["y"]]),
                json!(["l2_normalize", {"x": "small"}, {}, ["y"]]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.y").0, outcome.tensor("0.y").1), (dtype, vec![2, 2]));
        assert_close(&outcome.values("0.y"), &[0.6, -0.8, 0.8, 0.6], tolerance);
        assert_close(&outcome.values("1.y"), &[0.06, -0.08, 0.08, 0.06], tolerance);
        assert_eq!(outcome.values("2.y"), [0.0, 1.0]);
    }
}

#[test]
fn empty_tensors_keep_their_shape() {
    let outcome = Apply::new()
        .f32("no_rows", &[2, 0, 3], &[])
        .f32("no_columns", &[2, 0], &[])
        .f32("weight", &[0], &[])
        .run(&[
            json!(["rms_norm", {"x": "no_rows"}, {}, ["y"]]),
            json!(["layer_norm", {"x": "no_columns", "weight": "weight", "bias": "weight"}, {}, ["y"]]),
        ])
        .all_ok();
    assert_eq!(outcome.tensor("0.y").1, [2, 0, 3]);
    assert_eq!(outcome.tensor("1.y").1, [2, 0]);
}
