//! Softplus and log_sigmoid of f32 by short f64 computations, with the rounding test of [`super::exp_pair`]. Lanes that
//! fail the test are computed by the full f64 computations of [`super::softplus`]. A run over all 2^32 inputs
//! showed that every lane that passes has the same bits as the full computation.
//!
//! ln(1 + t) is 2 atanh(t / (2 + t)), and atanh is computed as an odd polynomial (relative error 2^-38.49).

use super::exp_pair::{LARGEST, UNCERTAINTY, exp_pair, round_wide};
use super::wide::horner_halves;
use crate::simd::{Float, Isa};

/// Coefficients of atanh(s) / s in powers of s^2.
const POLY: [f64; 7] = [
    f64::from_bits(0x3ff0_0000_0000_2ad5),
    f64::from_bits(0x3fd5_5555_5307_b1fa),
    f64::from_bits(0x3fc9_999c_2d75_8fa7),
    f64::from_bits(0x3fc2_489a_d1fd_0049),
    f64::from_bits(0x3fbc_8cf4_05b2_64b5),
    f64::from_bits(0x3fb5_eaa1_fd8c_1a18),
    f64::from_bits(0x3fbb_fb88_98ca_f8ca),
];
/// Bound on the relative error: the sum of the bounds for the exponential and for the polynomial. The second bound
/// covers the error of the reciprocal, which is below 2^-43.
const RELATIVE: f64 = 1.05 * UNCERTAINTY as f64 + 4e-12;

/// Computes max(x, 0) + ln(1 + e^-|x|).
#[inline(always)]
fn value<I: Isa>(isa: I, x: I::F32) -> I::F64 {
    let zero = isa.f32(0.0);
    let e = exp_pair(isa, isa.f32(-LARGEST).max(zero - x.abs()));
    let t = isa.widen(e.hi) + isa.widen(e.lo);
    let d = t + isa.f64(2.0);
    // A Newton step doubles the digits of the f32 estimate.
    let near = isa.widen(isa.reciprocal_estimate(isa.narrow(d)));
    let reciprocal = (isa.f64(-0.0) - near).mul_add(d, isa.f64(1.0)).mul_add(near, near);
    let s = t * reciprocal;
    (s + s).mul_add(horner_halves(isa, s * s, &POLY), isa.widen(x.max(zero)))
}

/// Returns an upper and a lower estimate of ln(1 + e^x), each rounded to f32. x must be accepted by [`serves`]. If the
/// two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn softplus<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    round_wide(isa, value(isa, x), RELATIVE)
}

/// Returns the lanes in which [`softplus`] is valid.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST).lt(x) & x.lt(isa.f32(f32::INFINITY))
}

/// Returns an upper and a lower estimate of -ln(1 + e^-x), each rounded to f32. x must be accepted by
/// [`log_sigmoid_serves`]. If the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn log_sigmoid<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let value = value(isa, isa.f32(0.0) - x);
    round_wide(isa, isa.f64(0.0) - value, RELATIVE)
}

/// Returns the lanes in which [`log_sigmoid`] is valid.
#[inline(always)]
pub fn log_sigmoid_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    serves(isa, isa.f32(0.0) - x)
}
