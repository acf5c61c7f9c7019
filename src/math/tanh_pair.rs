//! The hyperbolic tangent in pairs of f32, with the rounding test of [`super::exp_pair`]. Lanes that fail the test are
//! computed in f64, by [`super::tanh::tanh_wide`]. A run over all 2^32 inputs showed that every lane that passes has
//! the same bits as the f64 computation.
//!
//! For |x| below 0.1, tanh x is x + x^3 P(x^2), where P is a polynomial. For larger |x|, tanh |x| is (1 - t) / (1 + t)
//! with t = e^(-2|x|).

use super::exp_pair::{UNCERTAINTY, exp_pair};
use super::wide::{fast_two_sum, horner_narrow};
use crate::simd::{Float, Isa, Select};

/// Coefficients of (tanh x - x) / x^3 in powers of x^2; error 2^-33.22 relative to tanh x.
const POLY: [f32; 4] = [
    f32::from_bits(0xbeaa_aaab),
    f32::from_bits(0x3e08_8888),
    f32::from_bits(0xbd5d_0ca9),
    f32::from_bits(0x3cb1_b596),
];
const EDGE: f32 = 0.1;
/// Argument beyond which the result rounds to 1.
const LARGEST: f32 = 12.0;
/// Bound on the error for |x| < EDGE, relative to the term x^3 P(x^2). It covers the rounding errors of this term and
/// of P's first coefficient.
const NEAR: f32 = 4.0 / (1 << 24) as f32;
/// Bound on the error for |x| >= EDGE: half of the exponential's error, plus a small error of the quotient.
const FAR: f32 = 0.56 * UNCERTAINTY;

/// Returns an upper and a lower estimate of tanh x, each rounded to f32, for every x. If the two estimates are equal,
/// they are the correctly rounded result.
#[inline(always)]
pub fn tanh<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (minus_zero, one) = (isa.f32(-0.0), isa.f32(1.0));
    let a = isa.f32(LARGEST).min(x.abs());
    let e = exp_pair(isa, a * isa.f32(-2.0));
    let (t, t_low) = fast_two_sum(e.hi, e.lo);
    let (d, d_low) = fast_two_sum(one, t);
    let (n, n_low) = fast_two_sum(one, minus_zero - t);
    let reciprocal = isa.reciprocal_estimate(d);
    let q = n * reciprocal;
    let minus = minus_zero - q;
    let rest = minus.mul_add(d, n) + minus.mul_add(d_low + t_low, n_low - t_low);
    let square = a * a;
    let cube = a * square * horner_narrow(isa, square, &POLY);

    let is_near = a.lt(isa.f32(EDGE));
    let hi = I::F32::select(is_near, a, q);
    let lo = I::F32::select(is_near, cube, rest * reciprocal);
    let margin = I::F32::select(is_near, cube * isa.f32(NEAR), isa.f32(FAR));
    let sign = x.to_bits() & isa.i32(i32::MIN);
    let (above, below) = (hi + (lo + margin), hi + (lo - margin));
    [I::F32::from_bits(above.to_bits() | sign), I::F32::from_bits(below.to_bits() | sign)]
}
