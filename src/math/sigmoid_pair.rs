//! Sigmoid and silu in pairs of f32, with the test of [`super::exp_pair`]: what passes it has the bits of the f64 form,
//! which was found by trying all 2^32 inputs; what does not is left to that form.

use super::exp_pair::{LARGEST, Pair, UNCERTAINTY, exp_pair, round};
use super::wide::fast_two_sum;
use crate::simd::{Float, Isa, Select};

/// Bounds the error of hi + lo, relative to it: the exponential's, whose power of two may be 2^(1/32) above it, and a
/// little for the quotient.
const RELATIVE: f32 = 1.05 * UNCERTAINTY;
/// Below this in magnitude, the low part of silu could underflow.
const TINY: f32 = f32::from_bits((127 - 60) << 23);

/// 1 / (1 + t) for x >= 0 and t / (1 + t) below, with t = e^-|x|, as two f32; for x above -[`LARGEST`].
#[inline(always)]
fn quotient<I: Isa>(isa: I, x: I::F32) -> (I::F32, I::F32) {
    let zero = isa.f32(0.0);
    let one = isa.f32(1.0);
    // Beyond it the quotient is 1 whatever t is.
    let minus = isa.f32(-LARGEST).max(zero - x.abs());
    let Pair { hi, lo, .. } = exp_pair(isa, minus);
    // Its low part is up to 2^-12 of it, of which a quotient would leave the square.
    let (t, t_low) = fast_two_sum(hi, lo);
    let (d, d_low) = fast_two_sum(one, t);
    let negative = x.lt(zero);
    let n = I::F32::select(negative, t, one);
    let n_low = I::F32::select(negative, t_low, zero);
    let reciprocal = one / d;
    let q = n * reciprocal;
    let rest = (zero - q).mul_add(d, n) + (zero - q).mul_add(d_low + t_low, n_low);
    (q, rest * reciprocal)
}

/// 1 / (1 + e^-x) rounded to f32 from either side, for the x that [`serves`]: right where both agree.
#[inline(always)]
pub fn sigmoid<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (hi, lo) = quotient(isa, x);
    round(isa, hi, lo, hi, RELATIVE)
}

/// Where [`sigmoid`] serves.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST).lt(x)
}

/// x / (1 + e^-x) rounded to f32 from either side, for the x that [`silu_serves`]: right where both agree.
#[inline(always)]
pub fn silu<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let (q, q_low) = quotient(isa, x);
    let hi = x * q;
    let lo = x.mul_add(q_low, x.mul_add(q, isa.f32(0.0) - hi));
    let [above, below] = round(isa, hi, lo, hi.abs(), RELATIVE);
    // A sum would lose the sign of -0.
    let is_zero = x.eq(isa.f32(0.0));
    [I::F32::select(is_zero, x, above), I::F32::select(is_zero, x, below)]
}

/// Where [`silu`] serves.
#[inline(always)]
pub fn silu_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    serves(isa, x) & x.lt(isa.f32(f32::INFINITY)) & (isa.f32(TINY).lt(x.abs()) | x.eq(isa.f32(0.0)))
}
