//! Sigmoid, silu and gelu_tanh in pairs of f32, with the rounding test of [`super::exp_pair`]. Lanes that fail the test
//! are computed in f64, by [`super::sigmoid`] and [`super::gelu_tanh`]. A run over all 2^32 inputs showed that every
//! lane that passes has the same bits as the f64 computation.

use super::exp_pair::{LARGEST, UNCERTAINTY, exp_of_sum, exp_pair, round};
use super::wide::{fast_two_sum, two_sum};
use crate::simd::{Float, Isa, Select};

/// Bound on the relative error of hi + lo. [`UNCERTAINTY`], the error of the exponential, is relative to 2^(n/16),
/// which may exceed the exponential by a factor of 2^(1/32). The factor 1.06 covers this difference and a small error
/// of the quotient.
const RELATIVE: f32 = 1.06 * UNCERTAINTY;
/// Magnitude below which the low part of a product could underflow.
const TINY: f32 = f32::from_bits((127 - 60) << 23);
/// Factors in gelu_tanh's exponent, each as a sum of two f32: SLOPE is `2 * sqrt(2/pi)`, and CUBIC is
/// `0.044715 * SLOPE`.
const SLOPE: [f32; 2] = [f32::from_bits(0x3fcc_422a), f32::from_bits(0xb342_bc9b)];
const CUBIC: [f32; 2] = [f32::from_bits(0x3d92_2279), f32::from_bits(0x3124_d8b5)];
/// Magnitude beyond which gelu_tanh's exponential approaches the end of f32's range.
const LARGEST_OF_GELU: f32 = 9.0;

/// Computes 1 / (1 + t) for x >= 0 and t / (1 + t) for x < 0, as two f32. Here t is e^-|x|. x must be accepted by
/// [`serves`].
#[inline(always)]
fn share<I: Isa>(isa: I, x: I::F32) -> (I::F32, I::F32) {
    // For x above LARGEST the quotient rounds to 1, so t need not be exact.
    let minus = isa.f32(-LARGEST).max(isa.f32(-0.0) - x.abs());
    let e = exp_pair(isa, minus);
    logistic(isa, (e.hi, e.lo), x.lt(isa.f32(0.0)), estimate(isa))
}

/// Returns [`Isa::reciprocal_estimate`] as a function, for [`logistic`].
#[inline(always)]
fn estimate<I: Isa>(isa: I) -> impl Fn(I::F32) -> I::F32 {
    #[inline(always)]
    move |d| isa.reciprocal_estimate(d)
}

/// Computes 1 / (1 + t), or t / (1 + t) in lanes where `negative` is set. t is the sum of two f32, `hi` and `lo`. The
/// result is the sum of two f32 too. `reciprocal` returns a reciprocal with a relative error of at most 2^-22.
#[inline(always)]
pub fn logistic<I: Isa>(
    isa: I,
    (hi, lo): (I::F32, I::F32),
    negative: I::M32,
    reciprocal: impl Fn(I::F32) -> I::F32,
) -> (I::F32, I::F32) {
    let (zero, one) = (isa.f32(0.0), isa.f32(1.0));
    // `lo` may be as large as 2^-12 times `hi`. The quotient neglects the square of `lo`, so hi + lo is renormalised
    // first.
    let (t, t_low) = fast_two_sum(hi, lo);
    let (d, d_low) = fast_two_sum(one, t);
    let n = I::F32::select(negative, t, one);
    let n_low = I::F32::select(negative, t_low, zero);
    let reciprocal = reciprocal(d);
    let q = n * reciprocal;
    let minus = isa.f32(-0.0) - q;
    let rest = minus.mul_add(d, n) + minus.mul_add(d_low + t_low, n_low);
    (q, rest * reciprocal)
}

/// Returns an upper and a lower estimate of 1 / (1 + e^-x), each rounded to f32. x must be accepted by [`serves`]. If
/// the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn sigmoid<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (hi, lo) = share(isa, x);
    round(isa, hi, lo, hi, RELATIVE)
}

/// Returns the lanes in which [`sigmoid`] is valid.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST).lt(x)
}

/// Returns an upper and a lower estimate of x / (1 + e^-x), each rounded to f32. x must be accepted by [`silu_serves`].
/// If the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn silu<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    times(isa, x, share(isa, x))
}

/// Returns an upper and a lower estimate of x (q + q_low), each rounded to f32.
#[inline(always)]
fn times<I: Isa>(isa: I, x: I::F32, (q, q_low): (I::F32, I::F32)) -> [I::F32; 2] {
    let hi = x * q;
    let lo = x.mul_add(q_low, x.mul_add(q, isa.f32(-0.0) - hi));
    let [above, below] = round(isa, hi, lo, hi.abs(), RELATIVE);
    // A zero is returned unchanged, because adding the low part would lose the sign of -0.
    let is_zero = x.eq(isa.f32(0.0));
    [I::F32::select(is_zero, x, above), I::F32::select(is_zero, x, below)]
}

/// Returns the lanes in which [`silu`] is valid.
#[inline(always)]
pub fn silu_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    serves(isa, x) & x.lt(isa.f32(f32::INFINITY)) & (isa.f32(TINY).lt(x.abs()) | x.eq(isa.f32(0.0)))
}

/// Returns an upper and a lower estimate of x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, each rounded to f32. x
/// must be accepted by [`gelu_tanh_serves`]. If the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn gelu_tanh<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (zero, minus_zero) = (isa.f32(0.0), isa.f32(-0.0));
    let a = isa.f32(LARGEST_OF_GELU).min(x.abs());
    // The negated exponent, 2 sqrt(2/pi) (a + 0.044715 a^3), in two f32.
    let square = a * a;
    let square_low = a.mul_add(a, minus_zero - square);
    let (slope, cubic) = (isa.f32(SLOPE[0]), isa.f32(CUBIC[0]));
    let term = square * cubic;
    let term_low = square.mul_add(cubic, minus_zero - term) + square_low.mul_add(cubic, square * isa.f32(CUBIC[1]));
    let (factor, error) = two_sum(slope, term);
    let factor_low = error + (term_low + isa.f32(SLOPE[1]));
    let minus = (minus_zero - a) * factor;
    let minus_low = (minus_zero - a).mul_add(factor, minus_zero - minus) - a * factor_low;
    let e = exp_of_sum(isa, minus, minus_low);
    let q = logistic(isa, (e.hi, e.lo), x.lt(zero), estimate(isa));
    times(isa, x, q)
}

/// Returns the lanes in which [`gelu_tanh`] is valid.
#[inline(always)]
pub fn gelu_tanh_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST_OF_GELU).lt(x) & silu_serves(isa, x)
}
