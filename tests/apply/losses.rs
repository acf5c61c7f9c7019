//! Tests of losses whose targets have the same shape as x.

use crate::program::{Apply, FLOATS, assert_close};
use safetensors::Dtype;
use serde_json::json;

const LN_2: f64 = std::f64::consts::LN_2;

fn fixture(dtype: Dtype) -> Apply {
    Apply::new()
        .floats("x", dtype, &[2, 2], &[0.0, 0.0, -1.0, 2.0])
        .floats("line", dtype, &[4], &[0.0, 0.0, -1.0, 2.0])
        .floats("one", dtype, &[], &[0.0])
        .floats("target", dtype, &[2, 2], &[1.0, 0.0, 0.5, 0.25])
        .floats("targets", dtype, &[4], &[1.0, 0.0, 0.5, 0.25])
        .floats("half", dtype, &[], &[0.5])
}

/// Checks `kl_div` for several shapes and every reduction. As in PyTorch, the input x contains log-probabilities.
#[test]
fn kl_div_of_log_probabilities() {
    // The loss of each element is `p * (ln p - x)`, with target `p`.
    let each = [0.0, 0.0, 0.5 - 0.5 * LN_2, -0.5 - 0.5 * LN_2];
    let sum: f64 = each.iter().sum();
    for (dtype, tolerance) in FLOATS {
        let outcome = fixture(dtype).run(&[
            json!(["kl_div", {"x": "x", "target": "target"}, {"reduction": "none"}, ["loss", "dx"]]),
            json!(["kl_div", {"x": "line", "target": "targets"}, {}, ["loss", "dx"]]),
            json!(["kl_div", {"x": "one", "target": "half"}, {"reduction": "sum"}, ["loss"]]),
            json!(["kl_div", {"x": "x", "target": "line"}, {}, ["loss"]]),
            json!(["kl_div", {"x": "target", "target": "x"}, {"log_target": true}, ["loss"]]),
            json!(["kl_div", {"x": "x", "target": "target"}, {"scale": 2}, ["loss"]]),
        ]);
        let kind = if dtype == Dtype::F64 { Dtype::F64 } else { Dtype::F32 };
        let of_loss = if dtype == Dtype::F64 { 1e-15 } else { 1e-7 };
        assert_eq!((outcome.tensor("0.loss").0, outcome.tensor("0.loss").1), (kind, vec![2, 2]));
        assert_close(&outcome.values("0.loss"), &each, of_loss);
        assert_close(&outcome.values("0.dx"), &[-1.0, 0.0, -0.5, -0.25], tolerance);
        assert_eq!(outcome.tensor("1.loss").1, [0usize; 0]);
        assert_close(&outcome.values("1.loss"), &[sum / 4.0], of_loss);
        assert_close(&outcome.values("1.dx"), &[-0.25, 0.0, -0.125, -0.0625], tolerance);
        assert_close(&outcome.values("2.loss"), &[-0.5 * LN_2], of_loss);
        assert_eq!(outcome.answers[3]["error"], "ShapeMismatch");
        // A log-probability must be at most 0.
        assert_eq!((&outcome.answers[4]["error"], &outcome.answers[4]["row"]), (&json!("InvalidArgument"), &json!(1)));
        assert_eq!(outcome.answers[5]["error"], "InvalidArgument");
    }
}

#[test]
fn divergence_from_logits() {
    for (dtype, tolerance) in FLOATS {
        let outcome = fixture(dtype).run(&[
            json!(["kl_div_with_logits", {"x": "x", "target": "target"}, {"reduction": "none"}, ["loss", "dx"]]),
            json!(["kl_div_with_logits", {"x": "line", "target": "targets"}, {"scale": 0}, ["loss"]]),
        ]);
        // In the second row, the softmax of (-1, 2) is (q, 1 - q).
        let q = 1.0 / (1.0 + 3f64.exp());
        let second = 0.5 * (0.5f64.ln() - q.ln()) + 0.25 * (0.25f64.ln() - (1.0 - q).ln());
        assert_close(&outcome.values("0.loss"), &[LN_2, second], 1e-6);
        let dx = [-0.5, 0.5, 0.75 * q - 0.5, 0.75 * (1.0 - q) - 0.25];
        assert_close(&outcome.values("0.dx"), &dx, 2.0 * tolerance);
        // With scale 0, each of the four probabilities is 1/4.
        let entropy = -LN_2;
        assert_close(&outcome.values("1.loss"), &[entropy + 1.75 * 4f64.ln()], 1e-6);
    }
}

#[test]
fn binary_cross_entropy() {
    for (dtype, tolerance) in FLOATS {
        let outcome = fixture(dtype).run(&[
            json!(["bce_with_logits", {"x": "line", "target": "targets"}, {"reduction": "none"}, ["loss", "dx"]]),
            json!(["bce_with_logits", {"x": "one", "target": "half"}, {}, ["loss", "dx"]]),
            json!(["bce_with_logits", {"x": "x", "target": "target"}, {}, ["loss"]]),
        ]);
        let softplus = |x: f64| x.exp().ln_1p();
        let each =
            [LN_2, LN_2, 0.5 * softplus(1.0) + 0.5 * softplus(-1.0), 0.25 * softplus(-2.0) + 0.75 * softplus(2.0)];
        assert_eq!(outcome.tensor("0.loss").1, [4]);
        assert_close(&outcome.values("0.loss"), &each, 1e-6);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let dx = [-0.5, 0.5, sigmoid(-1.0) - 0.5, sigmoid(2.0) - 0.25];
        assert_close(&outcome.values("0.dx"), &dx, tolerance);
        assert_close(&outcome.values("1.loss"), &[LN_2], 1e-6);
        assert_close(&outcome.values("1.dx"), &[0.0], 0.0);
        assert_close(&outcome.values("2.loss"), &[each.iter().sum::<f64>() / 4.0], 1e-6);
    }
}
