//! Tests of arguments that ops reject before writing anything: outputs with another shape than the input, and
//! parameters out of range. The errors give the name, the value and the limit.

use evenkeel::*;
use half::bf16;

/// Six numbers, used as three rows of two or two rows of three.
const DATA: [f32; 6] = [0.5; 6];

fn rows(cols: usize) -> Rows<'static, f32> {
    Rows::new(&DATA, 6 / cols, cols).unwrap()
}

/// Fails unless `run` rejects an output of shape [3, 2] for an input of shape [2, 3], and leaves the output unchanged.
#[track_caller]
fn assert_refuses<T: std::fmt::Debug>(op: &str, argument: &str, run: impl FnOnce(RowsMut<'_, f32>) -> Result<T>) {
    let mut out = [7.0; 6];
    let error = run(RowsMut::new(&mut out, 3, 2).unwrap()).map(|_| ()).unwrap_err();
    let expected = format!("{op}: {argument} has shape [3, 2]; expected the input's shape, [2, 3]");
    assert_eq!(error.to_string(), expected);
    assert_eq!(out, [7.0; 6], "a rejected call of {op} must not write to its output");
}

#[test]
fn memory_of_another_shape() {
    let (softmax, rms, layer) = (Softmax::default(), RmsNorm::default(), LayerNorm::default());
    assert_refuses("softmax", "out", |out| softmax_into(rows(3), out, &softmax).map(|_| ()));
    assert_refuses("log_softmax", "out", |out| log_softmax_into(rows(3), out, &softmax).map(|_| ()));
    assert_refuses("rms_norm", "out", |out| rms_norm_into(rows(3), out, &rms).map(|_| ()));
    assert_refuses("layer_norm", "out", |out| layer_norm_into(rows(3), out, &layer).map(|_| ()));
    assert_refuses("l2_normalize", "out", |out| l2_normalize_into(rows(3), out, &L2Normalize::default()).map(|_| ()));
}

#[test]
fn gradients_of_another_shape() {
    let (softmax, rms, layer) = (Softmax::default(), RmsNorm::default(), LayerNorm::default());
    let output = SoftmaxFromOutput::default();
    let mut rooms = [[0.0; 6]; 6];
    let [a, b, c, d, e, f] = rooms.each_mut().map(|room| RowsMut::new(room, 2, 3).unwrap());
    let refused = [
        ("softmax_backward", softmax_backward_into(rows(3), rows(2), a, &softmax).map(|_| ())),
        ("log_softmax_backward", log_softmax_backward_into(rows(3), rows(2), b, &softmax).map(|_| ())),
        ("softmax_backward_from_output", softmax_backward_from_output_into(rows(3), rows(2), e, &output).map(|_| ())),
        (
            "log_softmax_backward_from_output",
            log_softmax_backward_from_output_into(rows(3), rows(2), f, &output).map(|_| ()),
        ),
        ("rms_norm_backward", rms_norm_backward_into(rows(3), rows(2), c, None, &rms).map(|_| ())),
        ("layer_norm_backward", layer_norm_backward_into(rows(3), rows(2), d, None, None, &layer).map(|_| ())),
    ];
    for (op, result) in refused {
        let expected = format!("{op}: dy has shape [3, 2]; expected the input's shape, [2, 3]");
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
    let x = rows(3);
    assert_refuses("softmax_backward", "dx", |dx| softmax_backward_into(x, x, dx, &softmax).map(|_| ()));
    assert_refuses("softmax_backward", "dy", |dy| softmax_backward_in_place(x, dy, &softmax));
    assert_refuses("log_softmax_backward", "dx", |dx| log_softmax_backward_into(x, x, dx, &softmax).map(|_| ()));
    assert_refuses("log_softmax_backward", "dy", |dy| log_softmax_backward_in_place(x, dy, &softmax));
    assert_refuses("softmax_backward_from_output", "dx", |dx| {
        softmax_backward_from_output_into(x, x, dx, &output).map(|_| ())
    });
    assert_refuses("softmax_backward_from_output", "dy", |dy| softmax_backward_from_output_in_place(x, dy, &output));
    assert_refuses("log_softmax_backward_from_output", "dx", |dx| {
        log_softmax_backward_from_output_into(x, x, dx, &output).map(|_| ())
    });
    assert_refuses("log_softmax_backward_from_output", "dy", |dy| {
        log_softmax_backward_from_output_in_place(x, dy, &output)
    });
    assert_refuses("rms_norm_backward", "dx", |dx| rms_norm_backward_into(x, x, dx, None, &rms).map(|_| ()));
    assert_refuses("rms_norm_backward", "dy", |dy| rms_norm_backward_in_place(x, dy, None, &rms));
    assert_refuses("layer_norm_backward", "dx", |dx| {
        layer_norm_backward_into(x, x, dx, None, None, &layer).map(|_| ())
    });
    assert_refuses("layer_norm_backward", "dy", |dy| layer_norm_backward_in_place(x, dy, None, None, &layer));
}

#[test]
fn functions_of_one_element_into_less_memory() {
    let mut short = [7.0f32; 5];
    let expected = |op| format!("{op}: out has 5 elements; expected 6, the input's length");
    assert_eq!(exp_into(&DATA, &mut short).unwrap_err().to_string(), expected("exp"));
    assert_eq!(gelu_into(&DATA, &mut short).unwrap_err().to_string(), expected("gelu"));
    assert_eq!(short, [7.0; 5]);
}

#[test]
fn an_eps_that_is_none() {
    for (eps, shown) in [(-1e-6, "-0.000001"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let of = |op| format!("{op}: eps is {shown}; it must be finite and not negative");
        let x = rows(3);
        let error = rms_norm(x, &RmsNorm::default().eps(eps)).unwrap_err();
        assert_eq!(error.to_string(), of("rms_norm"));
        let error = layer_norm(x, &LayerNorm::default().eps(eps)).unwrap_err();
        assert_eq!(error.to_string(), of("layer_norm"));
        let error = rms_norm_backward(x, x, &RmsNorm::default().eps(eps)).unwrap_err();
        assert_eq!(error.to_string(), of("rms_norm_backward"));
        let error = layer_norm_backward(x, x, &LayerNorm::default().eps(eps)).unwrap_err();
        assert_eq!(error.to_string(), of("layer_norm_backward"));
    }
    let error = rms_norm(rows(3), &RmsNorm::default().weight_offset(f64::NAN)).unwrap_err();
    assert_eq!(error.to_string(), "rms_norm: weight_offset is NaN; it must be finite");
}

#[test]
fn scales_and_caps_that_are_none() {
    let softmax_of = |options: Softmax<'_>| softmax(rows(3), &options).unwrap_err().to_string();
    for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let expected = format!("softmax: scale is {shown}; it must be finite");
        assert_eq!(softmax_of(Softmax::default().scale(value)), expected);
        let options = SoftmaxFromOutput::default().scale(value);
        let error = softmax_backward_from_output(rows(3), rows(3), &options).unwrap_err();
        let expected = format!("softmax_backward_from_output: scale is {shown}; it must be finite");
        assert_eq!(error.to_string(), expected);
        let error = log_softmax_backward_from_output(rows(3), rows(3), &options).unwrap_err();
        assert_eq!(error.to_string(), format!("log_{expected}"));
    }
    for (value, shown) in [(0.0, "0"), (-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let expected = format!("softmax: softcap is {shown}; it must be finite and above 0");
        assert_eq!(softmax_of(Softmax::default().softcap(value)), expected);
    }
}

/// Checks that a row may have as many terms as a fixed-point sum can hold, and that a longer row is rejected.
#[test]
fn rows_of_more_terms_than_a_sum_holds() {
    let x = vec![bf16::ZERO; (1 << 21) + 1];
    let (all, fits) = (Rows::new(&x, 1, x.len()).unwrap(), Rows::new(&x[1..], 1, x.len() - 1).unwrap());
    let options = Softmax::default();
    let refused = |op| format!("{op}: columns is 2097153; it must be at most 2097152");
    assert_eq!(softmax(all, &options).unwrap_err().to_string(), refused("softmax"));
    assert_eq!(log_softmax(all, &options).unwrap_err().to_string(), refused("log_softmax"));
    assert_eq!(logsumexp(all, &options).unwrap_err().to_string(), refused("logsumexp"));
    assert_eq!(softmax_backward(all, all, &options).unwrap_err().to_string(), refused("softmax_backward"));
    let error = softmax_backward_from_output(all, all, &SoftmaxFromOutput::default()).unwrap_err();
    assert_eq!(error.to_string(), refused("softmax_backward_from_output"));
    assert_eq!(softmax(fits, &options).unwrap()[0].to_f32(), 2.0f32.powi(-21));
    let loss = CrossEntropy::default();
    assert!((cross_entropy(fits, &[5], &loss).unwrap().value() - 21.0 * std::f64::consts::LN_2).abs() < 1e-12);
    assert_eq!(cross_entropy(all, &[5], &loss).unwrap_err().to_string(), refused("cross_entropy"));
}
