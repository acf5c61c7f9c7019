//! Tests of mean_pool.

use crate::program::{Apply, FLOATS, assert_close};
use safetensors::Dtype;
use serde_json::json;

#[test]
fn every_type_under_a_mask() {
    let x: Vec<f64> = (0..12).map(|i| f64::from(i % 5) - 1.5).collect();
    let counts = [true, false, true, false, false, false];
    let mean = |d: usize| (x[d] + x[4 + d]) / 2.0;
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 3, 2], &x)
            .floats("keep", dtype, &[2, 3], &counts.map(|c| if c { 0.0 } else { f64::NEG_INFINITY }))
            .floats("dy", dtype, &[2, 2], &[1.0, -3.0, 5.0, 7.0])
            .bytes("flags", Dtype::BOOL, &[2, 3], &counts.map(u8::from))
            .run(&[
                json!(["mean_pool", {"x": "x", "mask": "flags", "dy": "dy"}, {}, ["y", "dx"]]),
                json!(["mean_pool", {"x": "x", "mask": "flags"}, {"fully_masked": "error"}, ["y"]]),
                json!(["mean_pool", {"x": "x", "mask": "keep"}, {}, ["y"]]),
                json!(["mean_pool", {"x": "dy"}, {}, ["y"]]),
                json!(["mean_pool", {"x": "x"}, {"fully_masked": "uniform"}, ["y"]]),
            ]);
        assert_eq!((outcome.tensor("0.y").0, outcome.tensor("0.y").1), (dtype, vec![2, 2]));
        assert_close(&outcome.values("0.y"), &[mean(0), mean(1), 0.0, 0.0], 4.0 * tolerance);
        let dx = [0.5, -1.5, 0.0, 0.0, 0.5, -1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_close(&outcome.values("0.dx"), &dx, tolerance);
        assert_eq!(outcome.answers[1]["error"], "FullyMasked");
        assert_eq!(outcome.answers[2]["error"], "InvalidArgument");
        assert_eq!(outcome.answers[3]["error"], "ShapeMismatch");
        assert_eq!(outcome.answers[4]["error"], "InvalidArgument");
    }
}
