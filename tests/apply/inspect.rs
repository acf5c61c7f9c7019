//! Tests of inspect.

use crate::program::{Apply, FLOATS, assert_close};
use safetensors::Dtype;
use serde_json::json;

#[test]
fn statistics_in_every_type() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (dtype, _) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 4], &[1.0, nan, -4.0, inf, 2.0, -inf, nan, 5.0])
            .floats("scalar", dtype, &[], &[-3.0])
            .floats("broken", dtype, &[2], &[nan, inf])
            .floats("empty", dtype, &[0, 7], &[])
            .run(&[
                json!(["inspect", {"x": "x"}, {}, ["stats"]]),
                json!(["inspect", {"x": "scalar"}, {}, ["stats"]]),
                json!(["inspect", {"x": "broken"}, {}, ["stats"]]),
                json!(["inspect", {"x": "empty"}, {}, ["stats"]]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.stats").0, outcome.tensor("0.stats").1), (Dtype::F64, vec![8]));
        let std = (1.0f64 + 16.0 + 4.0 + 25.0) / 4.0 - 1.0;
        assert_close(&outcome.values("0.stats"), &[8.0, 2.0, 2.0, -4.0, 5.0, 1.0, std.sqrt(), 5.0], 1e-15);
        assert_close(&outcome.values("1.stats"), &[1.0, 0.0, 0.0, -3.0, -3.0, -3.0, 0.0, 3.0], 0.0);
        assert_close(&outcome.values("2.stats"), &[2.0, 1.0, 1.0, nan, nan, nan, nan, nan], 0.0);
        assert_close(&outcome.values("3.stats"), &[0.0, 0.0, 0.0, nan, nan, nan, nan, nan], 0.0);
    }
}

#[test]
fn sums_and_squares_beyond_f64() {
    let outcome = Apply::new()
        .floats("x", Dtype::F64, &[4], &[1e308, 1e308, -1e308, 1e308])
        .run(&[json!(["inspect", {"x": "x"}, {}, ["stats"]])])
        .all_ok();
    let std = 0.75f64.sqrt() * 1e308;
    assert_close(&outcome.values("0.stats"), &[4.0, 0.0, 0.0, -1e308, 1e308, 0.5e308, std, 1e308], 1e-15);
}
