//! Tests that fail in the unchanged tract, and pass once it uses Evenkeel. For these masks and scores, tract's own
//! masked softmax and attention return NaN.

use tract_nnef::internal::*;
use tract_transformers::ops::scaled_masked_softmax::ScaledMaskedSoftmax;
use tract_transformers::ops::sdpa::Sdpa;

const INF: f32 = f32::INFINITY;

/// Returns the result of the masked softmax, converted to f32.
fn softmax(scores: Tensor, mask: Tensor, scale: f32) -> Vec<f32> {
    let scale = tensor0(scale).cast_to_dt(scores.datum_type()).unwrap().into_owned().into_arc_tensor();
    let op = ScaledMaskedSoftmax { scale, post_softmax_mask: false };
    let y = op.eval(tvec![scores.into_tvalue(), mask.into_tvalue()]).unwrap();
    y[0].cast_to::<f32>().unwrap().try_as_plain().unwrap().as_slice::<f32>().unwrap().to_vec()
}

fn scores(dt: DatumType) -> Tensor {
    tensor2(&[[0f32, 0.], [1., 2.]]).cast_to_dt(dt).unwrap().into_owned()
}

#[test]
fn a_row_masked_by_flags_becomes_zeros() {
    let mask = tensor2(&[[true, true], [false, false]]);
    for dt in [f32::datum_type(), f16::datum_type()] {
        assert_eq!(softmax(scores(dt), mask.clone(), 1.), [0.5, 0.5, 0., 0.], "{dt:?}");
    }
}

#[test]
fn a_row_masked_by_a_bias_becomes_zeros() {
    let mask = tensor2(&[[0f32, 0.], [-INF, -INF]]);
    for dt in [f32::datum_type(), f16::datum_type()] {
        let mask = mask.cast_to_dt(dt).unwrap().into_owned();
        assert_eq!(softmax(scores(dt), mask, 1.), [0.5, 0.5, 0., 0.], "{dt:?}");
    }
}

/// A finite bias must not mask, however low it is. Here, the sum of score and bias is outside the range of f16.
#[test]
fn the_lowest_bias_of_16_bits_does_not_mask() {
    let bias = tensor2(&[[f16::MIN, f16::MIN]]);
    let scores = tensor2(&[[f16::from_f32(-100.), f16::from_f32(-100.)]]);
    assert_eq!(softmax(scores, bias, 1.), [0.5, 0.5]);
}

/// The scaled score 40,000 * 2 is outside the range of f16. The result depends only on differences of scores, which are
/// 0.
#[test]
fn scaled_scores_of_16_bits_do_not_overflow() {
    let scores = tensor2(&[[f16::from_f32(40_000.), f16::from_f32(40_000.)]]);
    assert_eq!(softmax(scores, tensor2(&[[true, true]]), 2.), [0.5, 0.5]);
}

#[test]
fn attention_of_a_masked_query_is_zero() {
    let x = tensor3(&[[[1f32, 2.], [3., 4.]]]).into_tvalue();
    let mask = tensor3(&[[[0f32, -INF], [-INF, -INF]]]).into_tvalue();
    let dt = f32::datum_type();
    let op = Sdpa { scale: None, datum_type: dt, acc_datum_type: dt, is_causal: false };
    let y = op.eval(tvec![x.clone(), x.clone(), x, mask]).unwrap();
    assert_eq!(y[0].try_as_plain().unwrap().as_slice::<f32>().unwrap(), [1., 2., 0., 0.]);
}
