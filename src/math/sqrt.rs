//! The square root and its reciprocal.

use super::exp_pair::round;
use super::wide::Wide;
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

/// Below it the rounding error of the root's square may not be held by f64.
const TINY: f64 = f64::from_bits((1023 - 900) << 52);
const SCALE: f64 = f64::from_bits((1023 + 200) << 52);
const SCALE_ROOT: f64 = f64::from_bits((1023 + 100) << 52);

/// sqrt x in f32, for x >= 0. It is rounded by the instruction; f32 has more than twice the digits of the 16-bit types, so
/// that this rounding does not show in theirs (Figueroa, 1995).
#[inline(always)]
pub fn sqrt_pair<I: Isa>(_: I, x: I::F32) -> [I::F32; 2] {
    [x.sqrt(), x.sqrt()]
}

/// Where [`sqrt_pair`] serves.
#[inline(always)]
pub fn sqrt_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(0.0).le(x)
}

/// sqrt x in f64.
#[inline(always)]
pub fn sqrt<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    // A low part of +0 would take the sign of -0 away.
    Wide { hi: x.sqrt(), lo: isa.f64(-0.0), exponent: None }
}

/// 1 / sqrt(x) rounded to f32 from either side, for the x that [`rsqrt_serves`]: right where both agree, of which
/// [`super::exp_pair`] tells more.
#[inline(always)]
pub fn rsqrt_pair<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    /// Bounds the relative error: what is left is squared by Newton's step.
    const RELATIVE: f32 = 1.0 / (1u64 << 42) as f32;
    let (zero, one) = (isa.f32(0.0), isa.f32(1.0));
    let y = one / x.sqrt();
    let square = y * y;
    let square_low = y.mul_add(y, zero - square);
    let rest = (zero - x).mul_add(square, one) - x * square_low;
    round(isa, y, y * (rest * isa.f32(0.5)), y, RELATIVE)
}

/// Where [`rsqrt_pair`] serves: where no square leaves f32's normal numbers.
#[inline(always)]
pub fn rsqrt_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(1e-25).lt(x) & x.lt(isa.f32(1e25))
}

/// 1 / sqrt(x), for any x: infinite at the zeros with their sign, NaN below.
#[inline(always)]
pub fn rsqrt<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let one = isa.f64(1.0);
    let (x, back) = if E::IS_F64 {
        let tiny = x.lt(isa.f64(TINY));
        (I::F64::select(tiny, x * isa.f64(SCALE), x), I::F64::select(tiny, isa.f64(SCALE_ROOT), one))
    } else {
        (x, one)
    };
    let minus = isa.f64(-0.0);
    let root = x.sqrt();
    let hi = one / root;
    // What the root and the quotient leave out, to first order.
    let of_root = (minus - root).mul_add(root, x);
    let of_quotient = (minus - hi).mul_add(root, one);
    let lo = hi * (of_quotient - of_root * isa.f64(0.5) * hi * hi);
    // At zero and infinity there is nothing left out, but a product of the two.
    let lo = I::F64::select(lo.is_nan(), isa.f64(0.0), lo);
    Wide { hi: hi * back, lo: lo * back, exponent: None }
}
