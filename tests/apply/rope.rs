//! Tests of rope.

use crate::program::{Apply, FLOATS, assert_close};
use serde_json::json;

/// Rotates rows of four columns. Each pair is given by its two column indices.
fn rope(x: &[f64], positions: &[i64], theta: f64, pairs: [(usize, usize); 2]) -> Vec<f64> {
    let mut y = x.to_vec();
    for (r, row) in y.chunks_mut(4).enumerate() {
        for (i, (first, second)) in pairs.into_iter().enumerate() {
            let angle = positions[r % positions.len()] as f64 * theta.powf(-2.0 * i as f64 / 4.0);
            let (a, b) = (row[first], row[second]);
            row[first] = a * angle.cos() - b * angle.sin();
            row[second] = a * angle.sin() + b * angle.cos();
        }
    }
    y
}

const HALVES: [(usize, usize); 2] = [(0, 2), (1, 3)];
const NEIGHBOURS: [(usize, usize); 2] = [(0, 1), (2, 3)];

#[test]
fn every_type_and_layout() {
    let x: Vec<f64> = (0..24).map(|i| f64::from(i % 5) - 1.5).collect();
    let positions = [0, 7, -3];
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 3, 4], &x)
            .integers("positions", &[3], &positions)
            .run(&[
                json!(["rope", {"x": "x", "positions": "positions"}, {}, ["y"]]),
                json!(["rope", {"x": "x", "positions": "positions"}, {"interleaved": true, "theta": 500000}, ["y"]]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.y").0, outcome.tensor("0.y").1), (dtype, vec![2, 3, 4]));
        // A rotation adds two products, which may partly cancel. For these values, 20 times the type's tolerance covers
        // the lost digits.
        assert_close(&outcome.values("0.y"), &rope(&x, &positions, 1e4, HALVES), 20.0 * tolerance);
        assert_close(&outcome.values("1.y"), &rope(&x, &positions, 5e5, NEIGHBOURS), 20.0 * tolerance);
    }
}

#[test]
fn any_position() {
    let outcome = Apply::new()
        .f32("x", &[2, 2], &[1.0, 0.0, 1.0, 0.0])
        .integers("positions", &[2], &[1_000_000_000_000, i64::MIN])
        .run(&[json!(["rope", {"x": "x", "positions": "positions"}, {}, ["y"]])])
        .all_ok();
    let y = outcome.values("0.y");
    let exact = (i64::MIN as f64).sin_cos();
    assert_close(&y, &[1e12f64.cos(), 1e12f64.sin(), exact.1, exact.0], 1e-6);
}

#[test]
fn norms_that_are_turned() {
    let x = [0.3, -0.4, 0.0, 0.5];
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[1, 4], &x)
            .floats("weight", dtype, &[4], &[2.0, 1.0, 0.5, 4.0])
            .integers("positions", &[1], &[3])
            .run(&[
                json!(["qk_norm_rope", {"x": "x", "positions": "positions", "weight": "weight"}, {"eps": 0}, ["y"]]),
                json!(["qk_norm_rope", {"x": "x", "positions": "positions"}, {"eps": 0, "weight_offset": 1}, ["y"]]),
            ])
            .all_ok();
        let root = (x.iter().map(|x| x * x).sum::<f64>() / 4.0).sqrt();
        for (job, weights) in [("0.y", [2.0, 1.0, 0.5, 4.0]), ("1.y", [2.0; 4])] {
            let normalised: Vec<f64> = x.iter().zip(weights).map(|(x, w)| x / root * w).collect();
            assert_close(&outcome.values(job), &rope(&normalised, &[3], 1e4, HALVES), 20.0 * tolerance);
        }
    }
}

#[test]
fn scalings() {
    let attrs = [
        json!({"scaling": "linear", "factor": 2}),
        json!({"scaling": "ntk", "factor": 4}),
        json!({"scaling": "yarn", "factor": 4, "original_positions": 4, "attention_factor": 3}),
        json!({"scaling": "llama3", "factor": 4, "low_freq_factor": 1, "high_freq_factor": 4, "original_positions": 1}),
        json!({"scaling": "yarn", "factor": 4}),
        json!({"scaling": "linear"}),
        json!({"scaling": "linear", "factor": 0.5}),
        json!({"scaling": "dynamic", "factor": 2}),
    ];
    let ops: Vec<_> =
        attrs.iter().map(|attrs| json!(["rope", {"x": "x", "positions": "positions"}, attrs, ["y"]])).collect();
    let x = [1.0, 0.5, 0.0, 0.0];
    let outcome = Apply::new().f32("x", &[1, 4], &x).integers("positions", &[1], &[2]).run(&ops);
    let turned = |angles: [f64; 2], factor: f64| {
        let [(a_sin, a_cos), (b_sin, b_cos)] = angles.map(f64::sin_cos);
        [a_cos, 0.5 * b_cos, a_sin, 0.5 * b_sin].map(|y| factor * y)
    };
    assert_close(&outcome.values("0.y"), &turned([1.0, 0.01], 1.0), 1e-6);
    assert_close(&outcome.values("1.y"), &turned([2.0, 0.005], 1.0), 1e-6);
    // YaRN with 4 original positions scales the second pair only. Llama 3 with 1 original position scales both pairs.
    assert_close(&outcome.values("2.y"), &turned([2.0, 0.005], 3.0), 1e-6);
    assert_close(&outcome.values("3.y"), &turned([0.5, 0.005], 1.0), 1e-6);
    outcome.answered();
    let well: Vec<_> = outcome.answers.iter().map(|answer| answer["ok"] == true).collect();
    assert_eq!(
        well,
        [true, true, true, true, false, false, false, false],
        "jobs 1 to 4 must succeed and jobs 5 to 8 must fail, got {:?}",
        outcome.answers
    );
}

#[test]
fn empty_tensors_keep_their_shape() {
    let outcome = Apply::new()
        .f32("x", &[2, 0, 4], &[])
        .f32("flat", &[2, 0], &[])
        .integers("none", &[0], &[])
        .integers("two", &[2], &[1, 2])
        .run(&[
            json!(["rope", {"x": "x", "positions": "none"}, {}, ["y"]]),
            json!(["rope", {"x": "flat", "positions": "two"}, {}, ["y"]]),
        ])
        .all_ok();
    assert_eq!(outcome.tensor("0.y").1, [2, 0, 4]);
    assert_eq!(outcome.tensor("1.y").1, [2, 0]);
}
