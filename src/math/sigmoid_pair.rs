//! Sigmoid, silu and gelu_tanh in pairs of f32, with the rounding test of [`super::exp_pair`]. Lanes that fail the test
//! are computed in f64, by [`super::sigmoid`] and [`super::gelu_tanh`]. A run over all 2^32 inputs showed that every
//! lane that passes has the same bits as the f64 computation.

use super::exp_pair::{LARGEST, UNCERTAINTY, exp_of_sum, exp_pair, round};
use super::wide::two_sum;
use crate::simd::{Float, Isa, Select};

/// Assumed bound on the relative error of hi + lo. The run over all inputs confirms that it suffices. [`UNCERTAINTY`],
/// the error of the exponential, is relative to 2^(n/16), which may exceed the exponential by a factor of 2^(1/32). The
/// quotient adds an error of at most 2^-36.
const RELATIVE: f32 = 1.06 * UNCERTAINTY;
/// Nonzero magnitudes up to this one are refused. Far below it, the low part of the quotient underflows.
const TINY: f32 = f32::from_bits((127 - 60) << 23);
/// Factors in gelu_tanh's exponent, each as a sum of two f32: SLOPE is `2 * sqrt(2/pi)`, and CUBIC is
/// `0.044715 * SLOPE`.
const SLOPE: [f32; 2] = [f32::from_bits(0x3fcc_422a), f32::from_bits(0xb342_bc9b)];
const CUBIC: [f32; 2] = [f32::from_bits(0x3d92_2279), f32::from_bits(0x3124_d8b5)];
/// Magnitude up to which the low part of gelu_tanh's exponent is at most 2^-17, as [`exp_of_sum`] requires.
const LARGEST_OF_GELU: f32 = 8.0;

/// Computes `n` / (1 + t) as the sum of two f32. t is the sum of the f32 `hi` and `lo`. The magnitude of `lo` is below
/// 2^-11.9 times `hi`.
#[inline(always)]
fn quotient<I: Isa>(isa: I, n: I::F32, hi: I::F32, lo: I::F32) -> (I::F32, I::F32) {
    let one = isa.f32(1.0);
    let d = one + (hi + lo);
    // d_low is 1 + hi + lo - d. It is exact for `hi` up to 2^35. For larger `hi`, its error is at most 2^-36 d.
    let d_low = ((one.max(hi) - d) + one.min(hi)) + lo;
    let reciprocal = isa.reciprocal_estimate(d);
    let q = n * reciprocal;
    let minus = isa.f32(-0.0) - q;
    (q, minus.mul_add(d_low, minus.mul_add(d, n)) * reciprocal)
}

/// Computes `n` / (1 + e^-x) as the sum of two f32. x must be accepted by [`serves`].
#[inline(always)]
fn share<I: Isa>(isa: I, n: I::F32, x: I::F32) -> (I::F32, I::F32) {
    // For x above LARGEST the quotient rounds to n, so the exponential need not be exact.
    let e = exp_pair(isa, isa.f32(-LARGEST).max(isa.f32(-0.0) - x));
    quotient(isa, n, e.hi, e.lo)
}

/// Returns an upper and a lower estimate of 1 / (1 + e^-x), each rounded to f32. x must be accepted by [`serves`]. If
/// the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn sigmoid<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (hi, lo) = share(isa, isa.f32(1.0), x);
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
    rounded(isa, x, share(isa, x, x))
}

/// Returns an upper and a lower estimate of hi + lo, each rounded to f32. Where x is zero, returns x, because adding the
/// low part would lose the sign of -0.
#[inline(always)]
fn rounded<I: Isa>(isa: I, x: I::F32, (hi, lo): (I::F32, I::F32)) -> [I::F32; 2] {
    let [above, below] = round(isa, hi, lo, hi.abs(), RELATIVE);
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
    let minus_zero = isa.f32(-0.0);
    // For larger x, the result rounds to x.
    let a = isa.f32(LARGEST_OF_GELU).min(x);
    // The exponent, -2 sqrt(2/pi) (a + 0.044715 a^3), as the sum of two f32.
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
    rounded(isa, x, quotient(isa, x, e.hi, e.lo))
}

/// Returns the lanes in which [`gelu_tanh`] is valid.
#[inline(always)]
pub fn gelu_tanh_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST_OF_GELU).lt(x) & silu_serves(isa, x)
}
