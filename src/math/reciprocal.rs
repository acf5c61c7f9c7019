//! Reciprocal, and its derivative times a gradient.

use super::derivative::times;
use super::wide::Wide;
use crate::element::Element;
use crate::simd::{Float, Int, Isa, Select};

const ONE_BITS: i64 = 0x3ff0_0000_0000_0000;
const FRACTION: i64 = 0x000f_ffff_ffff_ffff;
/// Factor that makes every subnormal f64 normal.
const TWO_54: f64 = 18_014_398_509_481_984.0;

/// Returns an upper and a lower estimate of 1 / x, which callers compare. Both are the f32 quotient, because the
/// division is correctly rounded. Rounding the quotient to a 16-bit type is also correct, because f32 has more than
/// twice the digits of these types.
#[inline(always)]
pub fn reciprocal_pair<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let quotient = isa.f32(1.0) / x;
    [quotient, quotient]
}

/// Computes 1 / x for any x. At a zero, the result is infinity with the sign of the zero.
#[inline(always)]
pub fn reciprocal<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    // The division rounds to f64. Rounding again to a narrower type is still correct, because f64 has more than twice
    // the digits of these types. The low part is -0, because +0 would change a result of -0 to +0.
    Wide { hi: isa.f64(1.0) / x, lo: isa.f64(-0.0), exponent: None }
}

/// Computes -dy / x^2, the gradient of 1 / x. The result is correct even if 1 / x^2 alone is out of f64's range.
#[inline(always)]
pub fn times_derivative<I: Isa, E: Element>(isa: I, dy: I::F64, x: I::F64) -> I::F64 {
    let (minus, zero, infinity) = (isa.f64(-0.0), isa.f64(0.0), isa.f64(f64::INFINITY));
    let plain = (minus - dy) / (x * x);
    if !E::IS_F64 {
        return plain;
    }
    // Splits |x| into 2^e m with 1 <= m < 2.
    let tiny = x.abs().lt(isa.f64(f64::MIN_POSITIVE));
    let bits = I::F64::select(tiny, x * isa.f64(TWO_54), x).abs().to_bits();
    let m = I::F64::from_bits((bits & isa.i64(FRACTION)) | isa.i64(ONE_BITS));
    let e = bits.shr::<52>() - I::I64::select(tiny, isa.i64(1023 + 54), isa.i64(1023));
    let square = m * m;
    let square_low = m.mul_add(m, minus - square);
    let hi = isa.f64(-1.0) / square;
    // First-order correction of the quotient's rounding error.
    let lo = hi * (hi.mul_add(square, isa.f64(1.0)) + hi * square_low);
    let product = times::<I, E>(isa, dy, Wide { hi, lo, exponent: Some(isa.i64(0) - e - e) });
    let regular = zero.lt(x.abs()) & x.abs().lt(infinity);
    I::F64::select(regular, product, plain)
}
