//! The reciprocal and the product with its slope.

use super::slope::times;
use super::wide::Wide;
use crate::element::Element;
use crate::simd::{Float, Int, Isa, Select};

const ONE_BITS: i64 = 0x3ff0_0000_0000_0000;
const FRACTION: i64 = 0x000f_ffff_ffff_ffff;
/// What makes every number of f64 normal.
const TWO_54: f64 = 18_014_398_509_481_984.0;

/// 1 / x in f32, for every number. It is rounded by the instruction; that does not show in the 16-bit types, as f32 has more
/// than twice their digits.
#[inline(always)]
pub fn reciprocal_pair<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let quotient = isa.f32(1.0) / x;
    [quotient, quotient]
}

/// 1 / x, for any x: infinite at the zeros with their sign.
#[inline(always)]
pub fn reciprocal<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    // The instruction rounds; f64 has more than twice the digits of the narrower types, so that its rounding does not
    // show in theirs. A low part of +0 would take the sign of -0 away.
    Wide { hi: isa.f64(1.0) / x, lo: isa.f64(-0.0), exponent: None }
}

/// The gradient `dy` times the slope of 1 / x, -1 / x^2, which f64 may not hold.
#[inline(always)]
pub fn times_slope<I: Isa, E: Element>(isa: I, dy: I::F64, x: I::F64) -> I::F64 {
    let (minus, zero, infinity) = (isa.f64(-0.0), isa.f64(0.0), isa.f64(f64::INFINITY));
    let plain = (minus - dy) / (x * x);
    if !E::IS_F64 {
        return plain;
    }
    // x = 2^e m with 1 <= m < 2.
    let tiny = x.abs().lt(isa.f64(f64::MIN_POSITIVE));
    let bits = I::F64::select(tiny, x * isa.f64(TWO_54), x).abs().to_bits();
    let m = I::F64::from_bits((bits & isa.i64(FRACTION)) | isa.i64(ONE_BITS));
    let e = bits.shr::<52>() - I::I64::select(tiny, isa.i64(1023 + 54), isa.i64(1023));
    let square = m * m;
    let square_low = m.mul_add(m, minus - square);
    let hi = isa.f64(-1.0) / square;
    // What the quotient lacks, to first order.
    let lo = hi * (hi.mul_add(square, isa.f64(1.0)) + hi * square_low);
    let product = times::<I, E>(isa, dy, Wide { hi, lo, exponent: Some(isa.i64(0) - e - e) });
    let regular = zero.lt(x.abs()) & x.abs().lt(infinity);
    I::F64::select(regular, product, plain)
}
