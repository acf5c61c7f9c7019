//! e^x - 1 as the sum of two f64.
//!
//! x = n ln2 + r as in [`super::exp`]. e^r - 1 is r + r^2/2 + r^3 q(r), where q is a polynomial of degree 9 (relative
//! error 2^-60.34). r and r^2/2 are kept as two f64 each. The error is below 2^-57 of the result, so the result is
//! correctly rounded in every type narrower than f64.

use super::exp::split;
use super::wide::{Wide, fast_two_sum, horner, power_of_two, two_sum};
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

/// Argument below which the result is -1 in every type.
pub const LOWEST: f64 = -40.0;
/// Argument above which subtracting 1 from e^x has no effect. For larger arguments, the result is e^x, as a significand
/// and an exponent.
const HIGH: f64 = 42.0;
/// Coefficients of (e^r - 1 - r - r^2/2) / r^3 on |r| <= ln2/2.
const POLY: [f64; 10] = [
    f64::from_bits(0x3fc5_5555_5555_5559),
    f64::from_bits(0x3fa5_5555_5555_5559),
    f64::from_bits(0x3f81_1111_1110_f6dc),
    f64::from_bits(0x3f56_c16c_16c1_4a77),
    f64::from_bits(0x3f2a_01a0_1afd_5a1f),
    f64::from_bits(0x3efa_01a0_1af6_770d),
    f64::from_bits(0x3ec7_1ddf_8764_1f5a),
    f64::from_bits(0x3e92_7e4c_7bd1_e0a4),
    f64::from_bits(0x3e5a_f5e8_8445_6715),
    f64::from_bits(0x3e21_f92c_a329_8802),
];

/// Computes e^x - 1 for x >= [`LOWEST`], as a sum of two f64 times a power of two. The exponent of this power is 0 for
/// x below [`HIGH`].
#[inline(always)]
fn parts<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    let (r, r_low, n) = split(isa, x);
    let square = r * r;
    let square_low = r.mul_add(r, isa.f64(0.0) - square);
    let half = isa.f64(0.5);
    let (high, error) = fast_two_sum(r, square * half);
    let low = square_low.mul_add(half, (square * r).mul_add(horner(isa, r, &POLY), r_low.mul_add(high, r_low)));
    let low = low + error;

    let is_high = isa.f64(HIGH).lt(x);
    let one = isa.f64(1.0);
    let power = I::F64::select(is_high, one, power_of_two(isa, n));
    let (whole, whole_low) = two_sum(power, I::F64::select(is_high, isa.f64(0.0), isa.f64(-1.0)));
    // e^x is `power` * (1 + high + low).
    let (hi, error) = fast_two_sum(whole, high * power);
    let exponent = I::I64::select(is_high, n, isa.f64(0.0).to_bits());
    Wide { hi, lo: error + low.mul_add(power, whole_low), exponent: Some(exponent) }
}

/// Computes e^x - 1, for any x.
#[inline(always)]
pub fn expm1<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let within = isa.f64(E::LIMITS.exp_max + 1.0).min(isa.f64(LOWEST).max(x));
    let Wide { hi, lo, exponent } = parts(isa, within);
    // A zero keeps its sign.
    let is_zero = x.eq(isa.f64(0.0));
    Wide { hi: I::F64::select(is_zero, x, hi), lo: I::F64::select(is_zero, x, lo), exponent }
}

/// Computes e^x - 1 for [`LOWEST`] <= x <= 0 as a sum of two f64. The low part is below half a unit in the last place
/// of the high part.
#[inline(always)]
pub fn expm1_below_zero<I: Isa>(isa: I, x: I::F64) -> (I::F64, I::F64) {
    let Wide { hi, lo, .. } = parts(isa, x);
    fast_two_sum(hi, lo)
}
