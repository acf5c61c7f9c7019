//! Tests of elementwise ops.

use crate::program::{Apply, FLOATS, assert_close};
use serde_json::json;

const X: [f64; 6] = [-2.0, -0.5, 0.0, 0.25, 1.0, 3.0];

#[test]
fn each_in_every_type() {
    type Function = fn(f64) -> f64;
    let gelu_tanh = |x: f64| x / (1.0 + (-1.5957691216057308 * (x + 0.044715 * x.powi(3))).exp());
    let ops: [(&str, Function); 15] = [
        ("exp", f64::exp),
        ("log", f64::ln),
        ("exp2", f64::exp2),
        ("log2", f64::log2),
        ("reciprocal", f64::recip),
        ("sigmoid", |x| 1.0 / (1.0 + (-x).exp())),
        ("silu", |x| x / (1.0 + (-x).exp())),
        ("expm1", f64::exp_m1),
        ("log1p", f64::ln_1p),
        ("tanh", f64::tanh),
        ("log_sigmoid", |x| -(-x).exp().ln_1p()),
        ("softplus", |x| x.exp().ln_1p()),
        ("sqrt", f64::sqrt),
        ("rsqrt", |x| 1.0 / x.sqrt()),
        ("gelu_tanh", gelu_tanh),
    ];
    for (dtype, tolerance) in FLOATS {
        let jobs = ops.map(|(op, _)| json!([op, {"x": "x"}, {}, ["y"]]));
        let outcome = Apply::new().floats("x", dtype, &[2, 3], &X).run(&jobs).all_ok();
        for (i, (_, function)) in ops.iter().enumerate() {
            let (got_dtype, shape, y) = outcome.tensor(&format!("{i}.y"));
            assert_eq!((got_dtype, shape), (dtype, vec![2, 3]));
            assert_close(&y, &X.map(function), tolerance);
        }
    }
}

#[test]
fn any_shape() {
    let nine_axes = [1; 9];
    let outcome = Apply::new()
        .f32("scalar", &[], &[1.0])
        .f32("none", &[4, 0], &[])
        .f32("deep", &nine_axes, &[0.0])
        .run(&[
            json!(["exp", {"x": "scalar"}, null, ["y"]]),
            json!(["exp", {"x": "none"}, {}, ["y"]]),
            json!(["exp", {"x": "deep"}, {}, ["y"]]),
        ])
        .all_ok();
    assert_eq!(outcome.tensor("0.y").1, Vec::<usize>::new());
    assert_close(&outcome.values("0.y"), &[1f64.exp()], 1e-7);
    assert_eq!(outcome.tensor("1.y").1, [4, 0]);
    assert_eq!(outcome.tensor("2.y").1, nine_axes);
}

#[test]
fn special_values() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let outcome = Apply::new()
        .f32("x", &[4], &[inf, -inf, nan, -100.0])
        .run(&[json!(["exp", {"x": "x"}, {}, ["y"]]), json!(["log", {"x": "x"}, {}, ["y"]])])
        .all_ok();
    let y = outcome.values("0.y");
    assert_close(&y[..3], &[inf, 0.0, nan], 0.0);
    // The result is subnormal, and must not be flushed to zero.
    assert_eq!(y[3], f64::from((-100f64).exp() as f32));
    assert_close(&outcome.values("1.y"), &[inf, nan, nan, nan], 0.0);
}

#[test]
fn gradients() {
    for (dtype, tolerance) in FLOATS {
        let both = json!({"x": "x", "dy": "dy"});
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 3], &X)
            .floats("dy", dtype, &[2, 3], &[1.0, -2.0, 0.5, 4.0, 0.0, 1.0])
            .run(&[
                json!(["exp", both, {}, ["dx"]]),
                json!(["tanh", both, {}, ["y", "dx"]]),
                json!(["log", both, {}, ["dx"]]),
            ])
            .all_ok();
        let (got_dtype, shape, dx) = outcome.tensor("0.dx");
        assert_eq!((got_dtype, shape), (dtype, vec![2, 3]));
        let dy = [1.0, -2.0, 0.5, 4.0, 0.0, 1.0];
        let product = |derivative: fn(f64) -> f64| std::array::from_fn::<f64, 6, _>(|i| dy[i] * derivative(X[i]));
        assert_close(&dx, &product(f64::exp), tolerance);
        assert_close(&outcome.values("1.dx"), &product(|x| x.cosh().powi(-2)), tolerance);
        assert_close(&outcome.values("1.y"), &X.map(f64::tanh), tolerance);
        let inf = f64::INFINITY;
        assert_close(&outcome.values("2.dx"), &[f64::NAN, f64::NAN, inf, 16.0, 0.0, 1.0 / 3.0], tolerance);
    }
}

#[test]
fn gradients_that_do_not_fit() {
    let outcome =
        Apply::new().f32("x", &[2, 3], &X).f32("turned", &[3, 2], &X).floats("wide", FLOATS[0].0, &[2, 3], &X).run(&[
            json!(["exp", {"x": "x"}, {}, ["dx"]]),
            json!(["exp", {"x": "x", "dy": "turned"}, {}, ["dx"]]),
            json!(["exp", {"x": "x", "dy": "wide"}, {}, ["dx"]]),
        ]);
    let errors: Vec<_> = outcome.answers.iter().map(|answer| answer["error"].as_str().unwrap_or("")).collect();
    assert_eq!(errors, ["InvalidArgument", "ShapeMismatch", "UnsupportedDType"]);
}

#[test]
fn guarded_forms() {
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[4], &[-3.0, 0.5, 1.0, 30.0])
            .floats("d", dtype, &[4], &[0.0, 0.25, -2.0, 1.0])
            .run(&[
                json!(["clamped_exp", {"x": "x", "dy": "d"}, {"min": -1, "max": 1}, ["y", "dx"]]),
                json!(["clamped_log", {"x": "x", "dy": "x"}, {"floor": 1}, ["y", "dx"]]),
                json!(["safe_div", {"x": "x", "d": "d"}, {"eps": 0.5}, ["y"]]),
                json!(["log_add_exp", {"a": "x", "b": "d"}, {}, ["y"]]),
                json!(["swiglu", {"gate": "x", "up": "d", "dy": "x"}, {}, ["y", "dgate", "dup"]]),
            ])
            .all_ok();
        let e = f64::exp;
        assert_close(&outcome.values("0.y"), &[e(-1.0), e(0.5), e(1.0), e(1.0)], tolerance);
        assert_close(&outcome.values("0.dx"), &[0.0, 0.25 * e(0.5), -2.0 * e(1.0), 0.0], tolerance);
        assert_close(&outcome.values("1.y"), &[0.0, 0.0, 0.0, 30f64.ln()], tolerance);
        assert_close(&outcome.values("1.dx"), &[0.0, 0.0, 1.0, 1.0], tolerance);
        assert_close(&outcome.values("2.y"), &[-6.0, 1.0, -0.5, 30.0], tolerance);
        let sums = [e(-3.0).ln_1p(), 0.5 + e(-0.25).ln_1p(), 1.0 + e(-3.0).ln_1p(), 30.0 + e(-29.0).ln_1p()];
        assert_close(&outcome.values("3.y"), &sums, tolerance);
        let share = |x: f64| 1.0 / (1.0 + e(-x));
        let of = |f: &dyn Fn(f64, f64) -> f64| {
            [(-3.0, 0.0), (0.5, 0.25), (1.0, -2.0), (30.0, 1.0)].map(|(gate, up)| f(gate, up)).to_vec()
        };
        assert_close(&outcome.values("4.y"), &of(&|x, d| x * share(x) * d), 2.0 * tolerance);
        assert_close(&outcome.values("4.dup"), &of(&|x, _| x * share(x) * x), 2.0 * tolerance);
        let derivatives = of(&|x, d| x * d * (share(x) + x * share(x) * share(-x)));
        assert_close(&outcome.values("4.dgate"), &derivatives, 2.0 * tolerance);
    }
}

#[test]
fn guarded_forms_by_default_are_finite() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let outcome = Apply::new().f32("x", &[4], &[inf, -inf, nan, 0.0]).f32("zeros", &[4], &[0.0; 4]).run(&[
        json!(["clamped_exp", {"x": "x"}, {}, ["y"]]),
        json!(["clamped_log", {"x": "x"}, {}, ["y"]]),
        json!(["safe_div", {"x": "x", "d": "zeros"}, {}, ["y"]]),
        json!(["clamped_exp", {"x": "x"}, {"min": 2, "max": 1}, ["y"]]),
        json!(["clamped_log", {"x": "x"}, {"floor": "nan"}, ["y"]]),
        json!(["safe_div", {"x": "x", "d": "zeros"}, {"eps": -1}, ["y"]]),
    ]);
    let y = outcome.values("0.y");
    assert!(y[0].is_finite() && y[1] >= f64::from(f32::MIN_POSITIVE) && y[2].is_nan() && y[3] == 1.0);
    let y = outcome.values("1.y");
    assert!(y[0] == inf && y[1].is_finite() && y[2].is_nan() && y[3] == y[1]);
    let y = outcome.values("2.y");
    assert!(y[0] == f64::from(f32::MAX) && y[1] == -y[0] && y[2].is_nan() && y[3] == 0.0);
    for answer in &outcome.answers[3..] {
        assert_eq!(answer["error"], "InvalidArgument");
    }
}
