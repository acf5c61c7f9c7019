//! The hyperbolic tangent, in two versions. [`tanh`] is an f64 within 2 ULP, which is enough for a softcap.
//! [`tanh_wide`] is the sum of two f64.

use super::exp::expm1_parts;
use super::expm1::expm1_below_zero;
use super::wide::{Wide, fast_two_sum, quotient};
use crate::simd::{Float, Isa, Select};

/// Argument beyond which the result rounds to 1.
const LARGEST: f64 = 20.0;

/// Computes tanh x, for any x.
#[inline(always)]
pub fn tanh<I: Isa>(isa: I, x: I::F64) -> I::F64 {
    const SIGN: i64 = i64::MIN;
    let sign = x.to_bits() & isa.i64(SIGN);
    // If x is NaN, `min` returns `x.abs()`, so a NaN stays a NaN.
    let magnitude = isa.f64(LARGEST).min(x.abs());
    // tanh|x| is -t / (2 + t) with t = e^(-2|x|) - 1. This formula has no cancellation near zero.
    let (t, t_low) = expm1_parts(isa, magnitude * isa.f64(-2.0));
    let t = t + t_low;
    let value = (isa.f64(0.0) - t) / (t + isa.f64(2.0));
    I::F64::from_bits(value.to_bits() | sign)
}

/// Computes tanh x with a low part, for any x.
#[inline(always)]
pub fn tanh_wide<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    let minus = isa.f64(-0.0);
    let magnitude = isa.f64(LARGEST).min(x.abs());
    let (t, t_low) = expm1_below_zero(isa, magnitude * isa.f64(-2.0));
    let (d, d_low) = fast_two_sum(isa.f64(2.0), t);
    let (hi, lo) = quotient(isa, (minus - t, minus - t_low), (d, d_low + t_low), isa.f64(1.0) / d);
    // `sign` is 1 or -1, with the sign of x. For x = -0, `sign` is -1.
    let sign = I::F64::from_bits((x.to_bits() & isa.i64(i64::MIN)) | isa.f64(1.0).to_bits());
    let is_zero = x.eq(isa.f64(0.0));
    Wide { hi: I::F64::select(is_zero, x, hi * sign), lo: I::F64::select(is_zero, x, lo * sign), exponent: None }
}
