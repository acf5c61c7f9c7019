//! Tests of softmax, log_softmax and logsumexp: axes, masks and options.

use crate::program::{Apply, FLOATS, Outcome, assert_close};
use safetensors::Dtype;
use serde_json::{Value, json};

const INF: f64 = f64::INFINITY;

/// Computes the softmax by definition. A logit of -inf is masked, and a fully masked row gives zeros.
fn softmax(z: &[f64]) -> Vec<f64> {
    let max = z.iter().copied().fold(-INF, f64::max);
    let e: Vec<f64> = z.iter().map(|z| if *z == -INF { 0.0 } else { (z - max).exp() }).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| if sum == 0.0 { 0.0 } else { e / sum }).collect()
}

fn rows(z: &[f64], cols: usize) -> Vec<f64> {
    z.chunks(cols).flat_map(softmax).collect()
}

/// Runs softmax for each set of attributes on the same inputs.
fn run(apply: Apply, attrs: &[Value]) -> Outcome {
    let jobs: Vec<_> = attrs
        .iter()
        .map(|attrs| json!(["softmax", {"x": "x", "mask": attrs["mask"]}, attrs["attrs"], ["y"]]))
        .collect();
    apply.run(&jobs).all_ok()
}

const X: [f64; 6] = [0.5, -1.0, 2.0, 3.0, 0.0, 1.5];

#[test]
fn the_family_in_every_type() {
    let y = rows(&X, 3);
    let lse: Vec<f64> = X.chunks(3).map(|row| row.iter().map(|x| x.exp()).sum::<f64>().ln()).collect();
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 3], &X)
            .run(&["softmax", "log_softmax", "logsumexp"].map(|op| json!([op, {"x": "x"}, {}, ["y"]])))
            .all_ok();
        assert_eq!(outcome.tensor("0.y").0, dtype);
        assert_close(&outcome.values("0.y"), &y, tolerance);
        assert_close(&outcome.values("1.y"), &y.iter().map(|y| y.ln()).collect::<Vec<_>>(), 2.0 * tolerance);
        assert_eq!((outcome.tensor("2.y").0, outcome.tensor("2.y").1), (dtype, vec![2]));
        assert_close(&outcome.values("2.y"), &lse, tolerance);
    }
}

#[test]
fn gradients_from_results() {
    let dy = [1.0, -2.0, 0.25, 0.5, 4.0, -1.0];
    let y = rows(&X, 3);
    let row = |y: &[f64], dy: &[f64]| -> Vec<f64> {
        let mean: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        y.iter().zip(dy).map(|(y, dy)| 0.5 * y * (dy - mean)).collect()
    };
    let log_row = |y: &[f64], dy: &[f64]| -> Vec<f64> {
        let sum: f64 = dy.iter().sum();
        y.iter().zip(dy).map(|(y, dy)| 0.5 * (dy - y * sum)).collect()
    };
    let expected: Vec<f64> = y.chunks(3).zip(dy.chunks(3)).flat_map(|(y, dy)| row(y, dy)).collect();
    let of_log: Vec<f64> = y.chunks(3).zip(dy.chunks(3)).flat_map(|(y, dy)| log_row(y, dy)).collect();
    for (dtype, tolerance) in FLOATS {
        let outcome = Apply::new()
            .floats("y", dtype, &[2, 3], &y)
            .floats("logs", dtype, &[2, 3], &y.iter().map(|y| y.ln()).collect::<Vec<_>>())
            .floats("dy", dtype, &[2, 3], &dy)
            .run(&[
                json!(["softmax_backward_from_output", {"y": "y", "dy": "dy"}, {"scale": 0.5}, ["dx"]]),
                json!(["log_softmax_backward_from_output", {"y": "logs", "dy": "dy"}, {"scale": 0.5}, ["dx"]]),
            ])
            .all_ok();
        assert_eq!(outcome.tensor("0.dx").0, dtype);
        assert_close(&outcome.values("0.dx"), &expected, 4.0 * tolerance);
        assert_close(&outcome.values("1.dx"), &of_log, 8.0 * tolerance);
    }
}

#[test]
fn every_axis() {
    let x: Vec<f64> = (0..24).map(|i| f64::from(i * i % 7) - 3.0).collect();
    let shape = [2, 3, 4];
    let at = |i: usize, j: usize, k: usize| (i * 3 + j) * 4 + k;
    let axes = [0i32, 1, 2, -3, -2, -1];
    let jobs: Vec<_> = axes.iter().map(|axis| json!(["softmax", {"x": "x"}, {"axis": axis}, ["y"]])).collect();
    let outcome = Apply::new().floats("x", Dtype::F64, &shape, &x).run(&jobs).all_ok();
    for (job, axis) in axes.iter().enumerate() {
        let (_, got_shape, y) = outcome.tensor(&format!("{job}.y"));
        assert_eq!(got_shape, shape);
        for (i, j, k) in (0..24).map(|n| (n / 12, n / 4 % 3, n % 4)) {
            let lane: Vec<f64> = match axis {
                0 | -3 => (0..2).map(|i| x[at(i, j, k)]).collect(),
                1 | -2 => (0..3).map(|j| x[at(i, j, k)]).collect(),
                _ => (0..4).map(|k| x[at(i, j, k)]).collect(),
            };
            let position = [i, j, k][axis.rem_euclid(3) as usize];
            assert_close(&[y[at(i, j, k)]], &[softmax(&lane)[position]], 1e-15);
        }
    }
}

#[test]
fn logsumexp_shapes_and_masks() {
    let outcome = Apply::new()
        .f32("x", &[2, 3], &X)
        .f32("none", &[2, 0], &[])
        .bytes("keep", Dtype::BOOL, &[2, 1], &[1, 0])
        .run(&[
            json!(["logsumexp", {"x": "x"}, {"axis": 0}, ["y"]]),
            json!(["logsumexp", {"x": "x"}, {"axis": 0.0, "keepdim": true}, ["y"]]),
            json!(["logsumexp", {"x": "x"}, {"axis": -1, "keepdim": true}, ["y"]]),
            json!(["logsumexp", {"x": "x", "mask": "keep"}, {}, ["y"]]),
            json!(["logsumexp", {"x": "none"}, {}, ["y"]]),
        ])
        .all_ok();
    assert_eq!(outcome.tensor("0.y").1, [3]);
    assert_eq!(outcome.tensor("1.y").1, [1, 3]);
    assert_eq!(outcome.tensor("2.y").1, [2, 1]);
    assert_eq!(outcome.values("0.y"), outcome.values("1.y"));
    assert_close(&outcome.values("0.y")[..1], &[(0.5f64.exp() + 3f64.exp()).ln()], 1e-7);
    assert_eq!(outcome.values("3.y")[1], -INF);
    assert_eq!(outcome.values("4.y"), [-INF, -INF]);
}

#[test]
fn masks_broadcast() {
    let keep = |flags: [bool; 6]| rows(&std::array::from_fn::<_, 6, _>(|i| if flags[i] { X[i] } else { -INF }), 3);
    let biased = |bias: [f64; 6]| rows(&std::array::from_fn::<_, 6, _>(|i| X[i] + bias[i]), 3);
    let (t, f) = (true, false);
    let cases: Vec<(&str, Vec<f64>)> = vec![
        ("whole", keep([t, f, t, f, t, t])),
        ("a_column", keep([t, f, t, t, f, t])),
        ("a_row", keep([t, t, t, f, f, f])),
        ("one", keep([f; 6])),
        ("f64", biased([0.5, -INF, 0.0, 0.5, -INF, 0.0])),
        ("f32", biased([-1e9, 0.0, 0.0, -1e9, 0.0, 0.0])),
        ("f16", biased([2.0, 2.0, 2.0, -INF, -INF, -INF])),
        ("bf16", biased([0.0; 6])),
    ];
    for (dtype, tolerance) in FLOATS {
        let apply = Apply::new()
            .floats("x", dtype, &[2, 3], &X)
            .bytes("whole", Dtype::U8, &[2, 3], &[1, 0, 2, 0, 255, 1])
            .bytes("a_column", Dtype::BOOL, &[3], &[1, 0, 1])
            .bytes("a_row", Dtype::BOOL, &[2, 1], &[1, 0])
            .bytes("one", Dtype::BOOL, &[], &[0])
            .floats("f64", Dtype::F64, &[1, 3], &[0.5, -INF, 0.0])
            .floats("f32", Dtype::F32, &[3], &[-1e9, 0.0, 0.0])
            .floats("f16", Dtype::F16, &[2, 1], &[2.0, -INF])
            .floats("bf16", Dtype::BF16, &[1], &[0.0]);
        let outcome = run(apply, &cases.iter().map(|(mask, _)| json!({"mask": mask})).collect::<Vec<_>>());
        for (i, (_, wanted)) in cases.iter().enumerate() {
            assert_close(&outcome.values(&format!("{i}.y")), wanted, tolerance);
        }
    }
}

#[test]
fn a_mask_on_another_axis() {
    let outcome = Apply::new()
        .f32("x", &[2, 3], &X)
        .bytes("keep", Dtype::BOOL, &[2, 1], &[1, 0])
        .run(&[json!(["softmax", {"x": "x", "mask": "keep"}, {"axis": 0}, ["y"]])])
        .all_ok();
    assert_eq!(outcome.values("0.y"), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn scale_and_softcap_come_before_the_mask() {
    let bias = [1.0, -2.0, 0.5];
    let cases = [
        (json!({"scale": 0.125}), X.map(|x| 0.125 * x)),
        (json!({"scale": -1}), X.map(|x| -x)),
        (json!({"softcap": 2.0}), X.map(|x| 2.0 * (x / 2.0).tanh())),
        (json!({"scale": 3.0, "softcap": 1.5}), X.map(|x| 1.5 * (x * 3.0 / 1.5).tanh())),
        (json!({"scale": null, "softcap": null, "causal": null, "axis": null, "fully_masked": null}), X),
    ];
    let apply = Apply::new().floats("x", Dtype::F64, &[2, 3], &X).floats("bias", Dtype::F64, &[3], &bias);
    let outcome = run(apply, &cases.clone().map(|(attrs, _)| json!({"mask": "bias", "attrs": attrs})));
    for (i, (_, z)) in cases.iter().enumerate() {
        let z: Vec<f64> = z.iter().zip(bias.iter().cycle()).map(|(z, b)| z + b).collect();
        assert_close(&outcome.values(&format!("{i}.y")), &rows(&z, 3), 1e-14);
    }
}

#[test]
fn causal_ends_at_the_last_key() {
    let zeros = [0.0; 2 * 2 * 4];
    let outcome = Apply::new()
        .f32("x", &[2, 2, 4], &zeros)
        .bytes("padding", Dtype::BOOL, &[2, 1, 4], &[1, 1, 1, 1, 0, 0, 0, 1])
        .run(&[
            json!(["softmax", {"x": "x"}, {"causal": true}, ["y"]]),
            json!(["softmax", {"x": "x", "mask": "padding"}, {"causal": true}, ["y"]]),
            json!(["softmax", {"x": "x"}, {"causal": false, "axis": 0}, ["y"]]),
        ])
        .all_ok();
    let third = f64::from(1.0f32 / 3.0);
    let rows = [third, third, third, 0.0, 0.25, 0.25, 0.25, 0.25];
    assert_eq!(outcome.values("0.y"), [rows, rows].concat());
    // The second sequence has a single valid key, the last one. Because of causality, only the last query attends to
    // it.
    assert_eq!(outcome.values("1.y"), [rows, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]].concat());
}

#[test]
fn rows_with_nothing_to_attend_to() {
    let x = [1.0, 2.0, -INF, -INF, 3.0, 4.0];
    let job = |op: &str, policy: Value| json!([op, {"x": "x"}, {"fully_masked": policy}, ["y"]]);
    let apply = Apply::new().f32("x", &[3, 2], &x);
    let outcome = apply.run(&[
        job("softmax", Value::Null),
        job("softmax", json!("zeros")),
        job("softmax", json!("uniform")),
        job("softmax", json!("error")),
        job("log_softmax", json!("zeros")),
        job("log_softmax", json!("uniform")),
        job("log_softmax", json!("error")),
    ]);
    outcome.answered();
    for zeros in ["0.y", "1.y"] {
        assert_eq!(outcome.values(zeros)[2..4], [0.0, 0.0]);
    }
    assert_eq!(outcome.values("2.y")[2..4], [0.5, 0.5]);
    assert_eq!(outcome.values("4.y")[2..4], [-INF, -INF]);
    assert_close(&outcome.values("5.y")[2..4], &[0.5f64.ln(); 2], 1e-7);
    for refused in [3, 6] {
        assert_eq!(outcome.answers[refused]["error"], "FullyMasked");
        assert_eq!(outcome.answers[refused]["row"], 1);
        assert!(outcome.answers[refused].get("index").is_none());
    }
}

#[test]
fn special_values_stay_in_their_row() {
    let nan = f64::NAN;
    let outcome = Apply::new()
        .f32("x", &[3, 2], &[nan, 1.0, INF, 0.0, 1.0, -INF])
        .bytes("keep", Dtype::BOOL, &[3, 2], &[0, 1, 1, 1, 1, 1])
        .f32("bias", &[3, 1], &[nan, 0.0, INF])
        .run(&[
            json!(["softmax", {"x": "x"}, {}, ["y"]]),
            json!(["softmax", {"x": "x", "mask": "keep"}, {}, ["y"]]),
            json!(["log_softmax", {"x": "x"}, {}, ["y"]]),
            json!(["logsumexp", {"x": "x"}, {}, ["y"]]),
            json!(["softmax", {"x": "x", "mask": "bias"}, {}, ["y"]]),
        ])
        .all_ok();
    assert_close(&outcome.values("0.y"), &[nan, nan, nan, nan, 1.0, 0.0], 0.0);
    // A NaN that a keep flag masks is never read.
    assert_close(&outcome.values("1.y"), &[0.0, 1.0, nan, nan, 1.0, 0.0], 0.0);
    assert_close(&outcome.values("2.y"), &[nan, nan, nan, nan, 0.0, -INF], 0.0);
    assert_close(&outcome.values("3.y"), &[nan, INF, 1.0], 0.0);
    assert!(outcome.values("4.y")[0].is_nan() && outcome.values("4.y")[4].is_nan());
}

#[test]
fn empty_tensors_keep_their_shape() {
    let outcome = Apply::new()
        .f32("no_rows", &[0, 4], &[])
        .f32("no_columns", &[4, 0], &[])
        .run(&[
            json!(["softmax", {"x": "no_rows"}, {}, ["y"]]),
            json!(["softmax", {"x": "no_columns"}, {"fully_masked": "error"}, ["y"]]),
            json!(["log_softmax", {"x": "no_columns"}, {}, ["y"]]),
        ])
        .all_ok();
    assert_eq!(outcome.tensor("0.y").1, [0, 4]);
    assert_eq!(outcome.tensor("1.y").1, [4, 0]);
    assert_eq!(outcome.tensor("2.y").1, [4, 0]);
}

/// Returns dx of softmax and log_softmax by definition. `derivatives[i]` is the derivative of the logit `z[i]` with
/// respect to its element of x.
fn gradients(z: &[f64], derivatives: &[f64], dy: &[f64]) -> [Vec<f64>; 2] {
    let y = softmax(z);
    let live = |i: &usize| z[*i] != -INF;
    let mean: f64 = (0..z.len()).filter(live).map(|i| y[i] * dy[i]).sum();
    let sum: f64 = (0..z.len()).filter(live).map(|i| dy[i]).sum();
    let of =
        |f: &dyn Fn(usize) -> f64| (0..z.len()).map(|i| if live(&i) { derivatives[i] * f(i) } else { 0.0 }).collect();
    [of(&|i| y[i] * (dy[i] - mean)), of(&|i| dy[i] - y[i] * sum)]
}

#[test]
fn gradients_of_both_in_every_type() {
    let (nan, dy) = (f64::NAN, [1.0, -0.5, 2.0, 0.25, 3.0, -1.0]);
    let row = |flags: [bool; 3], cap: Option<f64>, r: usize| {
        let x = &X[3 * r..][..3];
        let capped = |x: f64| cap.map_or(x, |cap| cap * (x / cap).tanh());
        let z: Vec<f64> = (0..3).map(|i| if flags[i] { capped(0.5 * x[i]) } else { -INF }).collect();
        let derivatives: Vec<f64> =
            x.iter().map(|x| cap.map_or(0.5, |c| 0.5 - 0.5 * (0.5 * x / c).tanh().powi(2))).collect();
        gradients(&z, &derivatives, &dy[3 * r..][..3])
    };
    for (dtype, tolerance) in FLOATS {
        let mut hidden = dy;
        (hidden[1], hidden[4]) = (nan, nan);
        let inputs = json!({"x": "x", "dy": "dy"});
        let masked = json!({"x": "x", "dy": "hidden", "mask": "keep"});
        let outcome = Apply::new()
            .floats("x", dtype, &[2, 3], &X)
            .floats("dy", dtype, &[2, 3], &dy)
            .floats("hidden", dtype, &[2, 3], &hidden)
            .bytes("keep", Dtype::BOOL, &[3], &[1, 0, 1])
            .run(&[
                json!(["softmax", inputs, {"scale": 0.5}, ["y", "dx"]]),
                json!(["log_softmax", inputs, {"scale": 0.5}, ["dx"]]),
                json!(["softmax", masked, {"scale": 0.5, "softcap": 2.0}, ["dx"]]),
                json!(["log_softmax", masked, {"scale": 0.5, "softcap": 2.0}, ["dx"]]),
                json!(["softmax", inputs, {"axis": 0, "fully_masked": "uniform"}, ["dx"]]),
            ])
            .all_ok();
        assert_eq!((outcome.tensor("0.dx").0, outcome.tensor("0.dx").1), (dtype, vec![2, 3]));
        for (job, op, flags, cap) in [
            (0, 0, [true; 3], None),
            (1, 1, [true; 3], None),
            (2, 0, [true, false, true], Some(2.0)),
            (3, 1, [true, false, true], Some(2.0)),
        ] {
            let wanted: Vec<f64> = (0..2).flat_map(|r| row(flags, cap, r)[op].clone()).collect();
            let got = outcome.values(&format!("{job}.dx"));
            // The terms of a gradient cancel, so the tolerance is absolute.
            for (got, wanted) in got.iter().zip(&wanted) {
                assert!((got - wanted).abs() <= 3.0 * tolerance, "dx of job {job}: expected {wanted}, got {got}");
                assert!(*wanted != 0.0 || *got == 0.0);
            }
        }
        for column in 0..3 {
            let wanted = &gradients(&[X[column], X[column + 3]], &[1.0; 2], &[dy[column], dy[column + 3]])[0];
            let got = outcome.values("4.dx");
            assert!(
                (got[column] - wanted[0]).abs() <= 3.0 * tolerance
                    && (got[column + 3] - wanted[1]).abs() <= 3.0 * tolerance
            );
        }
    }
}
