//! Tests of norms of f64 on rows whose rounding errors all have the same sign. The derived bounds hold for these rows.
//! Smaller bounds would fail.

use crate::support::compare::Checker;
use crate::support::generate;
use crate::support::norms::Norm;
use crate::support::one_way::one_way;
use evenkeel::{
    L2Normalize, LayerNorm, RmsNorm, RmsNormLinear, Rows, l2_normalize, layer_norm, layer_norm_backward, reference,
    rms_norm, rms_norm_backward, rms_norm_linear,
};

const LEN: usize = 16_384;

fn view(x: &[f64]) -> Rows<'_, f64> {
    Rows::new(x, 1, x.len()).unwrap()
}

#[test]
fn squares_that_are_rounded_up() {
    let mut rng = generate::rng("squares that are rounded up");
    let (x, error) = one_way(&mut rng);
    println!("relative error of the sum of squares: {error:.2} * 2^-53");
    assert!(error > 8.0, "the test needs a sum of squares with a relative error above 8 * 2^-53, got {error} * 2^-53");
    assert_eq!(x.len(), LEN);
    let weight = generate::bell::<f64>(&mut rng, LEN, 1.0, 0.4);
    let dy = generate::bell::<f64>(&mut rng, LEN, 0.3, 0.4);

    // For rows whose rounding errors have different signs, the measured bound is 4 ULP. The error on this row exceeds 4
    // ULP.
    let exact = reference::rms_norm(&x, Some(&weight), 0.0, 0.0);
    let got = rms_norm(view(&x), &RmsNorm::default().weight(&weight).eps(0.0)).unwrap();
    let worst = evenkeel::testing::within("", &x, &got, &exact, f64::INFINITY).unwrap();
    assert!(worst > 4.0, "the test needs a row on which rms_norm is off by more than 4 ULP, got {worst:.2} ULP");
    Checker::new::<f64>("rms_norm").check("rms_norm", &x, &got, &exact);

    let exact = reference::l2_normalize(&x, 0.0);
    let got = l2_normalize(view(&x), &L2Normalize::default().eps(0.0)).unwrap();
    Checker::new::<f64>("l2_normalize").check("l2_normalize", &x, &got, &exact);

    let exact = reference::rms_norm_backward(&x, &dy, Some(&weight), 0.0, 0.0);
    let got = rms_norm_backward(view(&x), view(&dy), &RmsNorm::default().weight(&weight).eps(0.0)).unwrap().dx;
    let terms = Norm { centred: false, eps: 0.0, weight: Some(&weight) }.terms(&x, &dy);
    Checker::new::<f64>("rms_norm_backward").check_terms("rms_norm_backward", &x, &got, &exact, &|i| terms[i]);

    let options = RmsNormLinear::default().norm(RmsNorm::default().weight(&weight).eps(0.0));
    let matrix = generate::bell::<f64>(&mut rng, LEN, 0.5, 0.1);
    let (exact, terms) = reference::rms_norm_linear(&x, &matrix, Some(&weight), 0.0, 0.0, &[0.0]);
    let got = rms_norm_linear(view(&x), view(&matrix), &options).unwrap();
    Checker::new::<f64>("rms_norm_linear").check_terms("rms_norm_linear", &got.clone(), &got, &exact, &|i| terms[i]);
}

/// Checks a row with alternating signs, so that its mean is nearly 0. The sum of its squares is rounded up.
#[test]
fn squared_deviations_that_are_rounded_up() {
    let mut rng = generate::rng("squared deviations that are rounded up");
    let (half, _) = one_way(&mut rng);
    let x: Vec<f64> = half.into_iter().enumerate().map(|(i, x)| if i % 2 == 0 { x } else { -x }).collect();
    let dy = generate::bell::<f64>(&mut rng, LEN, 0.3, 0.4);
    let weight = generate::bell::<f64>(&mut rng, LEN, 1.0, 0.4);
    let exact = reference::layer_norm(&x, Some(&weight), None, 0.0);
    let got = layer_norm(view(&x), &LayerNorm::default().weight(&weight).eps(0.0)).unwrap();
    Checker::new::<f64>("layer_norm").check_terms("layer_norm", &x, &got, &exact, &|i| weight[i]);

    let exact = reference::layer_norm_backward(&x, &dy, Some(&weight), 0.0);
    let got = layer_norm_backward(view(&x), view(&dy), &LayerNorm::default().weight(&weight).eps(0.0)).unwrap().dx;
    let terms = Norm { centred: true, eps: 0.0, weight: Some(&weight) }.terms(&x, &dy);
    Checker::new::<f64>("layer_norm_backward").check_terms("layer_norm_backward", &x, &got, &exact, &|i| terms[i]);
}

/// Checks rows whose elements differ by a few ULP. The kernel stores the mean as a sum of two f64. On such rows, all
/// digits of the smaller f64 must be correct.
#[test]
fn spreads_of_a_few_steps() {
    let mut rng = generate::rng("spreads of a few steps");
    let checker = Checker::of_usual_rows::<f64>("layer_norm");
    for len in [3, 7, 100, 791, 5000] {
        for _ in 0..20 {
            let steps = generate::bell::<f64>(&mut rng, len, 0.0, 2.0);
            let x: Vec<f64> = steps.iter().map(|step| 1.3 + step.round() * f64::EPSILON).collect();
            let exact = reference::layer_norm(&x, None, None, 0.0);
            let got = layer_norm(view(&x), &LayerNorm::default().eps(0.0)).unwrap();
            // All deviations are multiples of the same ULP, so their sums are exact. The bound therefore holds in ULP
            // of the result.
            checker.check(&format!("{len} columns"), &x, &got, &exact);
        }
    }
}
