//! Tests that fail in the unchanged burn, and pass once it computes activations with Evenkeel. On these inputs, burn's
//! own activations are NaN, infinite or imprecise.

use burn_tensor::activation::{gelu, softmax, softplus};
use burn_tensor::{DType, Tensor};

const INF: f32 = f32::INFINITY;

/// Elements of a result, as f32.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.cast(DType::F32).into_data().try_to_vec().unwrap()
}

#[test]
fn a_masked_row_becomes_zeros() {
    let scores = Tensor::<2>::from([[0.0, 0.0], [-INF, -INF]]);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let y = softmax(scores.clone().cast(dtype), 1);
        assert_eq!(values(y), [0.5, 0.5, 0.0, 0.0], "{dtype:?}");
    }
}

#[test]
fn a_masked_column_becomes_zeros() {
    let scores = Tensor::<2>::from([[0.0, -INF], [0.0, -INF]]);
    assert_eq!(values(softmax(scores, 0)), [0.5, 0.0, 0.5, 0.0]);
}

/// A later layer multiplies the masked row's result by 0. If that result were NaN, the product would be NaN too.
#[test]
fn a_masked_row_leaves_later_results_finite() {
    let mask = Tensor::<2>::from([[0.0, 1.0], [1.0, 1.0]]).greater_elem(0.5);
    let scores = Tensor::<2>::from([[1.0, 2.0], [3.0, 4.0]]).mask_fill(mask, -INF);
    let later = Tensor::<2>::from([[1.0, 0.0]]).matmul(softmax(scores, 1));
    assert_eq!(values(later), [1.0, 0.0]);
}

#[test]
fn softplus_of_a_large_number_is_the_number() {
    let x = [89.0, 1e4, 3e38, INF];
    assert_eq!(values(softplus(Tensor::<1>::from(x), 1.0)), x);
    assert_eq!(values(softplus(Tensor::<1>::from([89.0, 1e4]), 2.0)), [89.0, 1e4]);
}

#[test]
fn softplus_of_a_low_number_keeps_its_digits() {
    // The exact result is `ln(1 + e^-20) = e^-20 - e^-40 / 2 + ...`, and rounds to the same f32 as `e^-20`. But in f32,
    // `1 + e^-20` rounds to 1.
    assert_eq!(values(softplus(Tensor::<1>::from([-20.0]), 1.0)), [2.061_153_7e-9]);
}

#[test]
fn gelu_of_a_low_number_keeps_its_digits() {
    // The expected number is exact to all digits of f32. The formula with 1 + erf loses digits, because erf is near -1.
    assert_eq!(values(gelu(Tensor::<1>::from([-5.0]))), [-1.433_257_8e-6]);
    assert_eq!(values(gelu(Tensor::<1>::from([-INF]))), [0.0]);
}

/// Checks that each probability is rounded only once. If exponentials are rounded to 16 bits, and then their quotients
/// too, errors exceed the tolerance.
#[test]
fn probabilities_of_16_bits_are_rounded_once() {
    let x: Vec<f32> = (0..64).map(|i| (i * i % 61) as f32 / 16.0).collect();
    let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
    let scores = Tensor::<1>::from(x.as_slice()).cast(DType::BF16);
    for (y, x) in values(softmax(scores, 0)).into_iter().zip(x) {
        let exact = f64::from(x).exp() / sum;
        // `unit` is the distance of neighbouring bf16 numbers, which have 8 significant bits. Evenkeel's error bound is
        // 0.51 * `unit`.
        let unit = (exact.log2().floor() - 7.0).exp2();
        assert!((f64::from(y) - exact).abs() <= 0.51 * unit, "{y} for {exact}");
    }
}
