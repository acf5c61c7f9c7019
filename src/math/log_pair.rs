//! The natural logarithm in pairs of f32, with the rounding test of [`super::exp_pair`].
//!
//! x = 2^k m with m in [0.719, 1.438). A table gives c near 1 / m, so that r = m c - 1 is at most 1/16 in magnitude. ln
//! x is k ln2 - ln c + r - r^2/2 + r^3 q(r). For m around 1, c is 1, so that nothing cancels. k ln2 - ln c is split
//! into multiples of 2^-16, which add exactly, and a remainder. m c, the sums and the square are kept with their
//! rounding errors. The error of hi + lo is less than 2^-31.5 of the result; the rounding test relies on this bound.
//! Over all 2^32 inputs, every lane that passes the rounding test has the correctly rounded result.

use super::exp_pair::round;
use super::wide::{fast_two_sum, horner_narrow};
use crate::simd::{Float, Int, Isa};

/// Bits of 0.71875, the smallest m.
const BASE_BITS: i32 = 0x3f38_0000;
const ONE_BITS: i32 = 0x3f80_0000;
const FRACTION: i32 = 0x007f_ffff;
const TWO_23: f32 = 8_388_608.0;
/// Values of c, about 1 / m, for each eighth of a binade from 0.71875 up.
const RECIPROCAL: [f32; 8] = [
    f32::from_bits(0x3faa_8000),
    f32::from_bits(0x3f9d_8000),
    f32::from_bits(0x3f92_8000),
    f32::from_bits(0x3f88_8000),
    f32::from_bits(0x3f80_0000),
    f32::from_bits(0x3f64_0000),
    f32::from_bits(0x3f4d_0000),
    f32::from_bits(0x3f3a_0000),
];
/// Values of -ln c for each c in [`RECIPROCAL`]. Each value is the sum of a multiple of 2^-16 (`LOG_HI`) and a
/// remainder (`LOG_LO`).
const LOG_HI: [f32; 8] = [
    f32::from_bits(0xbe92_cc00),
    f32::from_bits(0xbe54_6000),
    f32::from_bits(0xbe0a_3c00),
    f32::from_bits(0xbd83_b000),
    f32::from_bits(0x0000_0000),
    f32::from_bits(0x3ded_3800),
    f32::from_bits(0x3e63_8000),
    f32::from_bits(0x3ea3_8c00),
];
const LOG_LO: [f32; 8] = [
    f32::from_bits(0x36ff_7904),
    f32::from_bits(0x3618_1bbf),
    f32::from_bits(0xb530_8ce8),
    f32::from_bits(0x36cf_94ce),
    f32::from_bits(0x0000_0000),
    f32::from_bits(0x361d_8e11),
    f32::from_bits(0xb507_21fe),
    f32::from_bits(0x365c_271c),
];
/// ln 2 rounded to a multiple of 2^-16, and the remainder.
const LN2_HI: f32 = f32::from_bits(0x3f31_7200);
const LN2_LO: f32 = f32::from_bits(0x35bf_be8e);
/// Coefficients of (ln(1 + r) - r + r^2/2) / r^3 on |r| <= 1/16; error 2^-27.
const POLY: [f32; 5] = [
    f32::from_bits(0x3eaa_aaab),
    f32::from_bits(0xbe7f_ffd8),
    f32::from_bits(0x3e4c_cc70),
    f32::from_bits(0xbe2b_4b32),
    f32::from_bits(0x3e13_1119),
];
/// Bound on the error of hi + lo, relative to hi + lo.
const UNCERTAINTY: f32 = 3.5e-10;

/// Parts of a positive normal number 2^k (1 + r + low) / c, with c from the table.
pub struct Reduced<I: Isa> {
    pub k: I::F32,
    /// Integer with the index of c in its low bits.
    pub interval: I::I32,
    pub r: I::F32,
    pub low: I::F32,
    /// r^2 and its rounding error.
    pub square: I::F32,
    pub square_low: I::F32,
}

/// Splits a positive normal number x = 2^k m.
#[inline(always)]
pub fn reduce<I: Isa>(isa: I, x: I::F32) -> Reduced<I> {
    let offset = x.to_bits() + isa.i32(ONE_BITS - BASE_BITS);
    let k = I::F32::from_bits(offset.shr::<23>() | isa.f32(TWO_23).to_bits()) - isa.f32(TWO_23 + 127.0);
    let m = I::F32::from_bits((offset & isa.i32(FRACTION)) + isa.i32(BASE_BITS));
    let interval = offset.shr::<20>();
    let c = isa.lookup(isa.table(&RECIPROCAL), interval);
    let product = m * c;
    let low = m.mul_add(c, isa.f32(0.0) - product);
    let r = product - isa.f32(1.0);
    let square = r * r;
    let square_low = r.mul_add(r, isa.f32(0.0) - square);
    Reduced { k, interval, r, low, square, square_low }
}

/// Computes ln x as two f32, for positive normal numbers.
#[inline(always)]
fn log_pair<I: Isa>(isa: I, x: I::F32) -> (I::F32, I::F32) {
    let Reduced { k, interval, r, low, square, square_low } = reduce(isa, x);
    let multiple = k.mul_add(isa.f32(LN2_HI), isa.lookup(isa.table(&LOG_HI), interval));
    let (sum, sum_low) = fast_two_sum(multiple, r);
    let half = isa.f32(-0.5);
    let hi = half.mul_add(square, sum);
    let hi_low = half.mul_add(square, sum - hi);

    let q = horner_narrow(isa, r, &POLY);
    // The derivative of ln(1 + r) is 1 - r + r^2, to second order.
    let derivative = (square - r) + isa.f32(1.0);
    let small = k.mul_add(isa.f32(LN2_LO), isa.lookup(isa.table(&LOG_LO), interval));
    let small = half.mul_add(square_low, low.mul_add(derivative, small));
    (hi, (square * r).mul_add(q, small + (sum_low + hi_low)))
}

/// Returns an upper and a lower estimate of ln x, each rounded to f32. x must be accepted by [`serves`]. If the two
/// estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn log<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (hi, lo) = log_pair(isa, x);
    rounded(isa, hi, lo)
}

/// Returns an upper and a lower estimate of a logarithm hi + lo, each rounded to f32.
#[inline(always)]
pub fn rounded<I: Isa>(isa: I, hi: I::F32, lo: I::F32) -> [I::F32; 2] {
    round(isa, hi, lo, hi.abs(), UNCERTAINTY)
}

/// Returns the lanes in which x is positive, normal and finite. The logarithms are valid only in these lanes.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(f32::MIN_POSITIVE).le(x) & x.lt(isa.f32(f32::INFINITY))
}
