//! Powers of two in pairs of f32, with the rounding test of [`super::exp_pair`].
//!
//! x is split exactly into n/16 + f, with an integer n and |f| <= 1/32. 2^f is e^r with r = f ln2. r is kept in two
//! f32, and e^r is computed as in [`super::exp_pair`]. Over all 2^32 inputs, every lane that passes the rounding test
//! has the correctly rounded result.

use super::exp_pair::{STEPS, UNCERTAINTY, of_reduced, round, table_low};
use super::softmax_exp::SHIFTER;
use crate::simd::{Float, Isa};

/// ln 2, as a high and a low part.
const LN2: [f32; 2] = [f32::from_bits(0x3f31_7218), f32::from_bits(0xb102_e308)];
/// Magnitude of x above which 2^x may be infinite, or its low part may lose digits to underflow.
const LARGEST: f32 = 108.0;

/// Returns an upper and a lower estimate of 2^x, each rounded to f32. x must be accepted by [`serves`]. If the two
/// estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn exp2<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (f, j) = split(isa, x);
    let (ln2, ln2_low) = (isa.f32(LN2[0]), isa.f32(LN2[1]));
    let r = f * ln2;
    let r_low = f.mul_add(ln2_low, f.mul_add(ln2, isa.f32(-0.0) - r));
    // `low` is below 2^-24, so `half` may be 1/2.
    let power = of_reduced(isa, r, r_low + table_low(isa, j), isa.f32(0.5), j);
    round(isa, power.hi, power.lo, power.power, UNCERTAINTY)
}

/// Splits x into n/16 + f. Returns f, and a number with n in its low bits.
#[inline(always)]
fn split<I: Isa>(isa: I, x: I::F32) -> (I::F32, I::F32) {
    let j = x.mul_add(isa.f32(STEPS), isa.f32(SHIFTER));
    ((j - isa.f32(SHIFTER)).mul_add(isa.f32(-1.0 / STEPS), x), j)
}

/// Returns the lanes in which [`exp2`] is valid.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    x.abs().lt(isa.f32(LARGEST))
}
