//! Tests of clipping in the PyTorch mode against PyTorch's results.

use crate::vectors::{f32s, f64s, lines};
use evenkeel::testing::ulp;
use evenkeel::{ClipGradNorm, ClipMode, NormType, clip_grad_norm};

/// Compares with PyTorch. PyTorch rounds four times, in f64, and adds up to a few hundred terms in another order than
/// Evenkeel. The resulting differences are far below the bound for f32.
#[test]
fn as_in_torch() {
    let lines = lines("clip");
    assert_eq!(lines.len(), 36);
    for line in lines {
        let [max_norm, norm_type, sizes, grads, norm, clipped] = line[..] else { panic!("{line:?}") };
        let mut grads = f32s(grads);
        let options = ClipGradNorm::new(max_norm.parse().unwrap()).mode(ClipMode::Torch).norm_type(match norm_type {
            "1.0" => NormType::One,
            "2.0" => NormType::Two,
            _ => NormType::Infinity,
        });
        let (mut tensors, mut rest) = (Vec::new(), &mut grads[..]);
        for size in sizes.split(' ') {
            let (tensor, others) = rest.split_at_mut(size.parse().unwrap());
            tensors.push(tensor.into());
            rest = others;
        }
        let got = clip_grad_norm(&mut tensors, &options).unwrap();
        let (norm, clipped) = (f64s(norm)[0], f64s(clipped));
        assert!(
            (got / norm - 1.0).abs() <= 400.0 * f64::EPSILON,
            "clip_grad_norm, norm type {norm_type}: expected the norm {norm}, got {got}"
        );
        assert_eq!(grads.len(), clipped.len());
        for (got, expected) in grads.iter().zip(clipped) {
            let off = ulp::error(*got, expected);
            assert!(
                off <= 0.51,
                "gradient clipped to norm {max_norm}: expected {expected} within 0.51 ULP, got {got} with an error \
                 of {off} ULP"
            );
        }
    }
}
