//! Functions computed only in f32, for results in f16 or bf16.
//!
//! An f32 result is used if it is normal in the 16-bit type, and if its error (at most `Function::SHORT_ULPS`) cannot
//! change the rounding to that type. If the low bits of the results are random, at most 1 normal result in 128 fails
//! this test. All other results, and inputs that a function does not accept, are computed in f64. Results are therefore
//! correctly rounded, and do not depend on the processor's reciprocal estimate. A unit test checks `SHORT_ULPS` for
//! every accepted f16 and bf16 input with a normal result. The unit test also uses the least accurate reciprocal
//! estimate.

use super::exp_pair::exp_short;
pub use super::exp2_pair::exp2_short as exp2;
use super::log_pair::reduce_short;
use super::wide::horner_narrow;
use crate::simd::{Float, Isa, Select};

/// Coefficients of (tanh x - x) / x^3 in powers of x^2 for x below [`EDGE_OF_TANH`]; error 2^-26.2 relative to tanh x.
const TANH: [f32; 3] = [f32::from_bits(0xbeaa_aa4f), f32::from_bits(0x3e08_5809), f32::from_bits(0xbd4e_4cd5)];
const EDGE_OF_TANH: f32 = 0.3;
/// Argument beyond which tanh rounds to 1.
const LARGEST_OF_TANH: f32 = 12.0;
/// Magnitude beyond which the error of e^-|x| grows or the exponential may underflow.
const LARGEST_OF_SIGMOID: f32 = 75.0;
/// Factors in gelu_tanh's exponent: SLOPE is `2 * sqrt(2/pi)`, and CUBIC is `0.044715 * SLOPE`.
const SLOPE: f32 = f32::from_bits(0x3fcc_422a);
const CUBIC: f32 = f32::from_bits(0x3d92_2279);
/// Magnitude up to which the error of gelu_tanh's exponent is small enough for the bound of 24 ULP.
const LARGEST_OF_GELU_TANH: f32 = 6.0;
/// Coefficients of erf x / x in powers of x^2 for x below [`EDGE_OF_ERF`]; relative error 2^-26.9.
const ERF: [f32; 5] = [
    f32::from_bits(0x3f90_6eba),
    f32::from_bits(0xbec0_9379),
    f32::from_bits(0x3de7_08e3),
    f32::from_bits(0xbcda_4ac8),
    f32::from_bits(0x3b93_dc67),
];
const EDGE_OF_ERF: f32 = 0.6;
/// Argument beyond which erf is 1 in f32.
const LARGEST_OF_ERF: f32 = 4.2;
/// Constants for the probability that a normal variable exceeds a, for a from 0 to 9. The probability is approximated
/// by `e^(-a^2/2) * r * P(r - CENTRE)` with `r = 1 / (a + POLE)`. TAIL has the coefficients of P. Relative error
/// 2^-23.2.
const POLE: f32 = 2.5;
const CENTRE: f32 = f32::from_bits(0x3e79_525d);
const TAIL: [f32; 8] = [
    f32::from_bits(0x3f4e_9a7a),
    f32::from_bits(0x401c_8497),
    f32::from_bits(0x4042_7ea7),
    f32::from_bits(0xc031_ffc8),
    f32::from_bits(0xc103_73ec),
    f32::from_bits(0x4146_4dc1),
    f32::from_bits(0x4196_fb61),
    f32::from_bits(0xc263_398e),
];
/// Largest argument for which [`TAIL`] is valid.
const LARGEST_OF_TAIL: f32 = 9.0;
/// Coefficients of (ln(1 + r) - r) / r^2 in powers of r, for |r| <= 1/16; error 2^-25.5 relative to ln(1 + r).
const LOG: [f32; 4] = [-0.5, f32::from_bits(0x3eaa_aa84), f32::from_bits(0xbe80_4a5c), f32::from_bits(0x3e4d_ac34)];

/// Coefficients of ln(1 + t) / t for t from 0 to 1; relative error 2^-25.
const LOG1P: [f32; 9] = [
    f32::from_bits(0x3f7f_ffff),
    f32::from_bits(0xbeff_ff56),
    f32::from_bits(0x3eaa_9802),
    f32::from_bits(0xbe7e_6463),
    f32::from_bits(0x3e43_a53f),
    f32::from_bits(0xbe0b_e95f),
    f32::from_bits(0x3da0_34e9),
    f32::from_bits(0xbcf1_b4ee),
    f32::from_bits(0x3bab_76fc),
];

/// Computes 1 / d within 4 ULP for d from 1 to 16. A Newton step doubles the number of correct bits of the
/// processor's estimate.
#[inline(always)]
fn reciprocal<I: Isa>(isa: I, d: I::F32) -> I::F32 {
    let near = isa.reciprocal_estimate(d);
    let error = (isa.f32(0.0) - near).mul_add(d, isa.f32(1.0));
    near.mul_add(error, near)
}

/// Computes e^x within 2 ULP, for |x| below 75.
#[inline(always)]
pub fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    exp_short(isa, x, isa.f32(0.0))
}

/// Computes ln x within 2 ULP, for positive normal numbers.
#[inline(always)]
pub fn log<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let (multiple, r) = reduce_short(isa, x);
    multiple + (r * r).mul_add(horner_narrow(isa, r, &LOG), r)
}

/// Computes log2 x within 3 ULP, for positive normal numbers.
#[inline(always)]
pub fn log2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    log(isa, x) * isa.f32(std::f32::consts::LOG2_E)
}

/// Computes 1 / sqrt(x) within 1.5 ULP, for positive normal numbers whose result is normal.
#[inline(always)]
pub fn rsqrt<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    isa.f32(1.0) / x.sqrt()
}

/// Computes ln(1 + e^x) within 6 ULP, for the x that [`softplus_serves`] accepts.
#[inline(always)]
pub fn softplus<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let zero = isa.f32(0.0);
    let t = exp(isa, isa.f32(-LARGEST_OF_SIGMOID).max(zero - x.abs()));
    t.mul_add(horner_narrow(isa, t, &LOG1P), x.max(zero))
}

/// Returns the lanes in which [`softplus`] is valid.
#[inline(always)]
pub fn softplus_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST_OF_SIGMOID).lt(x) & x.lt(isa.f32(f32::INFINITY))
}

/// Computes -ln(1 + e^-x) within 6 ULP, for the x that [`log_sigmoid_serves`] accepts.
#[inline(always)]
pub fn log_sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    isa.f32(0.0) - softplus(isa, isa.f32(0.0) - x)
}

/// Returns the lanes in which [`log_sigmoid`] is valid.
#[inline(always)]
pub fn log_sigmoid_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    softplus_serves(isa, isa.f32(0.0) - x)
}

/// Computes 1 / (1 + t), or t / (1 + t) where `negative` is set.
#[inline(always)]
fn logistic<I: Isa>(isa: I, t: I::F32, negative: I::M32) -> I::F32 {
    let one = isa.f32(1.0);
    I::F32::select(negative, t, one) * reciprocal(isa, one + t)
}

/// Computes 1 / (1 + e^-x) within 6 ULP, for x above -75.
#[inline(always)]
pub fn sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let minus = isa.f32(-LARGEST_OF_SIGMOID).max(isa.f32(0.0) - x.abs());
    logistic(isa, exp(isa, minus), x.lt(isa.f32(0.0)))
}

/// Computes x / (1 + e^-x) within 7 ULP, for x above -75.
#[inline(always)]
pub fn silu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    x * sigmoid(isa, x)
}

/// Computes tanh x within 6 ULP, for every number.
#[inline(always)]
pub fn tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let one = isa.f32(1.0);
    let a = isa.f32(LARGEST_OF_TANH).min(x.abs());
    let t = exp(isa, a * isa.f32(-2.0));
    let far = (one - t) * reciprocal(isa, one + t);
    let square = a * a;
    let near = (a * square).mul_add(horner_narrow(isa, square, &TANH), a);
    with_sign(isa, I::F32::select(a.lt(isa.f32(EDGE_OF_TANH)), near, far), x)
}

/// Computes x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 within 24 ULP, for the x that [`gelu_tanh_serves`] accepts.
#[inline(always)]
pub fn gelu_tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let a = isa.f32(LARGEST_OF_GELU_TANH).min(x.abs());
    let factor = (a * a).mul_add(isa.f32(CUBIC), isa.f32(SLOPE));
    let t = exp(isa, (isa.f32(0.0) - a) * factor);
    x * logistic(isa, t, x.lt(isa.f32(0.0)))
}

/// Returns the lanes in which [`gelu_tanh`] is valid.
#[inline(always)]
pub fn gelu_tanh_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST_OF_GELU_TANH).lt(x) & x.lt(isa.f32(f32::INFINITY))
}

/// Computes x (1 + erf(x / sqrt(2))) / 2 within 12 ULP, for x above -9.
#[inline(always)]
pub fn gelu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let a = isa.f32(LARGEST_OF_TAIL).min(x.abs());
    let tail = tail(isa, a, exp_of_square(isa, a, 0.5));
    x * I::F32::select(x.lt(isa.f32(0.0)), tail, isa.f32(1.0) - tail)
}

/// Computes erf x within 6 ULP, for every number.
#[inline(always)]
pub fn erf<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let a = isa.f32(LARGEST_OF_ERF).min(x.abs());
    let near = a * horner_narrow(isa, a * a, &ERF);
    let tail = tail(isa, a * isa.f32(std::f32::consts::SQRT_2), exp_of_square(isa, a, 1.0));
    let far = tail.mul_add(isa.f32(-2.0), isa.f32(1.0));
    with_sign(isa, I::F32::select(a.lt(isa.f32(EDGE_OF_ERF)), near, far), x)
}

/// Returns the probability that a normal variable exceeds `a`, for `a` from 0 to [`LARGEST_OF_TAIL`]. `exponential` is
/// e^(-a^2/2).
#[inline(always)]
fn tail<I: Isa>(isa: I, a: I::F32, exponential: I::F32) -> I::F32 {
    let reciprocal = reciprocal(isa, a + isa.f32(POLE));
    horner_narrow(isa, reciprocal - isa.f32(CENTRE), &TAIL) * (reciprocal * exponential)
}

/// Computes `e^(-share * a^2)`. `share` must be a power of two.
#[inline(always)]
fn exp_of_square<I: Isa>(isa: I, a: I::F32, share: f32) -> I::F32 {
    let square = a * a;
    let low = a.mul_add(a, isa.f32(0.0) - square);
    let share = isa.f32(-share);
    exp_short(isa, square * share, low * share)
}

#[inline(always)]
fn with_sign<I: Isa>(isa: I, magnitude: I::F32, sign: I::F32) -> I::F32 {
    I::F32::from_bits(magnitude.to_bits() | (sign.to_bits() & isa.i32(i32::MIN)))
}
