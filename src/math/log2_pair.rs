//! The binary logarithm in pairs of f32, with the rounding test of [`super::exp_pair`].
//!
//! x = 2^k m and r = m c - 1 as in [`super::log_pair`]. log2 x = k - log2 c + (r - r^2/2) / ln2 + r^3 q(r). k is exact,
//! so the logarithms of powers of two are exact too. The error of hi + lo is less than 2^-32 of the result; the
//! rounding test uses the larger bound of the natural logarithm. Over all 2^32 inputs, every lane that passes the
//! rounding test has the correctly rounded result.

use super::log_pair::{Reduced, reduce, rounded};
use super::wide::{fast_two_sum, horner_narrow};
use crate::simd::{Float, Isa};

/// Values of -log2 c for each c in the table of [`super::log_pair`]. Each value is the sum of a multiple of 2^-16
/// (`LOG_HI`) and a remainder (`LOG_LO`).
const LOG_HI: [f32; 8] = [
    f32::from_bits(0xbed3_c800),
    f32::from_bits(0xbe99_3200),
    f32::from_bits(0xbe47_7000),
    f32::from_bits(0xbdbd_f800),
    f32::from_bits(0x0000_0000),
    f32::from_bits(0x3e2b_2000),
    f32::from_bits(0x3ea4_1c00),
    f32::from_bits(0x3eeb_f400),
];
const LOG_LO: [f32; 8] = [
    f32::from_bits(0x36f5_c842),
    f32::from_bits(0x35d3_929b),
    f32::from_bits(0x36d4_5f2b),
    f32::from_bits(0x358b_4a3b),
    f32::from_bits(0x0000_0000),
    f32::from_bits(0xb68f_5801),
    f32::from_bits(0xb6d0_cb51),
    f32::from_bits(0xb69f_aa1e),
];
/// 1 / ln 2, as a high and a low part.
const LOG2_E: [f32; 2] = [f32::from_bits(0x3fb8_aa3b), f32::from_bits(0x32a5_7060)];
/// Coefficients of (log2(1 + r) - (r - r^2/2) / ln2) / r^3 on |r| <= 1/16; error 2^-26.
const POLY: [f32; 5] = [
    f32::from_bits(0x3ef6_384f),
    f32::from_bits(0xbeb8_aa1e),
    f32::from_bits(0x3e93_bb1f),
    f32::from_bits(0xbe77_1fe6),
    f32::from_bits(0x3e54_2c2b),
];
/// Computes log2 x as two f32, for positive normal numbers.
#[inline(always)]
fn log2_pair<I: Isa>(isa: I, x: I::F32) -> (I::F32, I::F32) {
    let Reduced { k, interval, r, low, square, square_low } = reduce(isa, x);
    let (factor, factor_low) = (isa.f32(LOG2_E[0]), isa.f32(LOG2_E[1]));
    let product = r * factor;
    let product_low = r.mul_add(factor_low, r.mul_add(factor, isa.f32(0.0) - product));

    let (sum, sum_low) = fast_two_sum(k + isa.lookup(isa.table(&LOG_HI), interval), product);
    let half = isa.f32(LOG2_E[0] * -0.5);
    let hi = half.mul_add(square, sum);
    let hi_low = half.mul_add(square, sum - hi);

    let q = horner_narrow(isa, r, &POLY);
    let q = q.mul_add(r, isa.f32(LOG2_E[1] * -0.5));
    // The derivative of log2(1 + r) is (1 - r + r^2) / ln2, to second order.
    let derivative = (square - r).mul_add(factor, factor);
    let small = low.mul_add(derivative, product_low + isa.lookup(isa.table(&LOG_LO), interval));
    let small = half.mul_add(square_low, small);
    (hi, square.mul_add(q, small + (sum_low + hi_low)))
}

/// Returns an upper and a lower estimate of log2 x, each rounded to f32. x must be accepted by `log_pair::serves`. If
/// the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn log2<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (hi, lo) = log2_pair(isa, x);
    rounded(isa, hi, lo)
}
