//! Gelu of f32 by a shorter f64 computation, with the rounding test of [`super::exp_pair`]. Lanes that fail the test
//! are computed by the full f64 computation of [`super::gelu`]. A run over all 2^32 inputs showed that every lane that
//! passes has the same bits as the full computation.
//!
//! Let a be |x|. The tail, the probability that a normal variable exceeds a, is e^(-a^2/2) P(1/(a + 9/2)) / (a + 9/2).
//! The relative error of the polynomial P is 2^-36.89. For x below zero, gelu is x times the tail. Above zero, it is x
//! times 1 minus the tail.

use super::exp_pair::{UNCERTAINTY, exp_of_sum, round_wide};
use super::wide::horner_halves;
use crate::simd::{Float, Isa, Select};

const POLE: f32 = 4.5;
const CENTRE: f64 = f64::from_bits(0x3fc2_f684_bda1_2f68);
const FAR: [f64; 13] = [
    f64::from_bits(0x3ff0_982b_343d_dd03),
    f64::from_bits(0x4022_bcb2_00ef_aeb2),
    f64::from_bits(0x404f_df85_366b_5a0b),
    f64::from_bits(0x4074_1d1e_0d92_b72d),
    f64::from_bits(0x4091_9de1_8444_5fe8),
    f64::from_bits(0x40a0_d01a_131d_b546),
    f64::from_bits(0xc094_2f46_8b96_04cf),
    f64::from_bits(0xc0d1_51ff_6902_f2ea),
    f64::from_bits(0xc0cf_68ca_65e5_cc2d),
    f64::from_bits(0x40ff_c31e_63ca_a8f0),
    f64::from_bits(0x4109_b037_6e66_996f),
    f64::from_bits(0xc12e_3d34_e80a_2060),
    f64::from_bits(0xc139_1990_2be3_8531),
];
/// Largest argument for which the polynomial is valid. At this argument, 1 minus the tail rounds to 1 in f32.
const LARGEST: f32 = 9.0;
/// Bound on the relative error: the sum of the bounds for the exponential and for the polynomial. The second bound
/// covers the error of the reciprocal, which is below 2^-43.
const RELATIVE: f64 = 1.05 * UNCERTAINTY as f64 + 1e-11;

/// Returns the probability that a normal variable exceeds `a`, for `a` from 0 to [`LARGEST`]. `exponential` is
/// e^(-a^2/2).
#[inline(always)]
fn tail<I: Isa>(isa: I, a: I::F64, exponential: I::F64) -> I::F64 {
    let d = a + isa.f64(f64::from(POLE));
    // One Newton step doubles the number of correct digits of the f32 estimate.
    let near = isa.widen(isa.reciprocal_estimate(isa.narrow(d)));
    let reciprocal = (isa.f64(-0.0) - near).mul_add(d, isa.f64(1.0)).mul_add(near, near);
    horner_halves(isa, reciprocal - isa.f64(CENTRE), &FAR) * (reciprocal * exponential)
}

/// Computes e^(-a^2/2).
#[inline(always)]
fn exponential<I: Isa>(isa: I, a: I::F32) -> I::F64 {
    let square = a * a;
    let low = a.mul_add(a, isa.f32(-0.0) - square);
    let half = isa.f32(-0.5);
    let e = exp_of_sum(isa, square * half, low * half);
    isa.widen(e.hi) + isa.widen(e.lo)
}

/// Returns an upper and a lower estimate of x (1 + erf(x / sqrt(2))) / 2, each rounded to f32. x must be accepted by
/// [`serves`]. If the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn gelu<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let a = isa.f32(LARGEST).min(x.abs());
    let tail = tail(isa, isa.widen(a), exponential(isa, a));
    let x = isa.widen(x);
    let share = I::F64::select(x.lt(isa.f64(0.0)), tail, isa.f64(1.0) - tail);
    round_wide(isa, x * share, RELATIVE)
}

/// Returns the lanes in which [`gelu`] is valid.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST).lt(x) & x.lt(isa.f32(f32::INFINITY))
}
