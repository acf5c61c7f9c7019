//! rms_norm and layer_norm.

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
        // Bounds are of the larger term where the bias cancels; these do not.
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
