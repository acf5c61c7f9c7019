//! Powers of two as the sum of two f64.
//!
//! x is split exactly into n + f, with an integer n and |f| <= 1/2. 2^f equals e^r with `r = f * ln2`, and is computed
//! by the polynomial of [`super::exp`]. r and the polynomial's first term, r^2/2, are kept as two f64 each. The error
//! is 0.53 ULP in f64, or 0.8 ULP where a subnormal result is rounded a second time. In every narrower type, the result
//! is correctly rounded. For an integer x, the result is exact.

use super::derivative::within;
use super::exp::{POLY, without_nan};
use super::wide::{Wide, fast_two_sum, horner, product};
use crate::element::Element;
use crate::simd::{Float, Isa};

/// ln 2, as a high and a low part.
const LN2: [f64; 2] = [f64::from_bits(0x3fe6_2e42_fefa_39ef), f64::from_bits(0x3c7a_bc9e_3b39_803f)];
/// 1.5 * 2^52. Adding it to a number rounds the number to an integer. This integer is in the low bits of the sum.
const SHIFTER: f64 = 6_755_399_441_055_744.0;

/// Computes 2^x for |x| up to a few thousand.
#[inline(always)]
fn parts<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    let shifter = isa.f64(SHIFTER);
    let shifted = x + shifter;
    let f = x - (shifted - shifter);
    let (ln2, ln2_low) = (isa.f64(LN2[0]), isa.f64(LN2[1]));
    let r = f * ln2;
    let r_low = f.mul_add(ln2_low, f.mul_add(ln2, isa.f64(-0.0) - r));
    let half = isa.f64(0.5);
    let square = r * r;
    let square_low = r.mul_add(r, isa.f64(-0.0) - square);
    let (sum, error) = fast_two_sum(isa.f64(1.0), r);
    // The factor e^r_low is approximated by 1 + r_low.
    let small = r_low.mul_add(sum, square_low * half);
    let rest = (square * r).mul_add(horner(isa, r, &POLY[1..]), small);
    let (hi, error_of_square) = fast_two_sum(sum, square * half);
    Wide { hi, lo: error + error_of_square + rest, exponent: Some(shifted.to_bits() - shifter.to_bits()) }
}

/// Computes 2^x, for any x.
#[inline(always)]
pub fn exp2<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    // Magnitude of x above which 2^x is 0 or infinite in type `E`.
    let far = if E::IS_F64 { 1100.0 } else { 200.0 };
    without_nan::<I, E>(isa, x, parts(isa, within(isa, x, far)))
}

/// Computes the derivative of 2^x, which is `ln2 * 2^x`, for any x.
#[inline(always)]
pub fn derivative<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    // Magnitude of x above which 2^x times any number of type `E` is zero or infinite.
    let far = if E::IS_F64 { 2200.0 } else { 300.0 };
    let power = parts(isa, within(isa, x, far)).normalised();
    let (hi, lo) = product(isa, (power.hi, power.lo), (isa.f64(LN2[0]), isa.f64(LN2[1])));
    Wide { hi, lo, ..power }
}
