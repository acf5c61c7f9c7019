//! The square root and its reciprocal.

use super::exp_pair::round;
use super::wide::Wide;
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

/// Value of x below which x minus the square of its rounded root may underflow in f64.
const TINY: f64 = f64::from_bits((1023 - 900) << 52);
const SCALE: f64 = f64::from_bits((1023 + 200) << 52);
const SCALE_ROOT: f64 = f64::from_bits((1023 + 100) << 52);

/// Returns an upper and a lower estimate of the root of x >= 0, which callers compare. Both are the f32 root, because
/// the f32 root is correctly rounded. Rounding the root to a 16-bit type is also correct, because f32 has more than
/// twice the digits of these types (Figueroa, 1995).
#[inline(always)]
pub fn sqrt_pair<I: Isa>(_: I, x: I::F32) -> [I::F32; 2] {
    [x.sqrt(), x.sqrt()]
}

/// Returns the lanes in which [`sqrt_pair`] is valid.
#[inline(always)]
pub fn sqrt_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(0.0).le(x)
}

/// Computes sqrt x in f64.
#[inline(always)]
pub fn sqrt<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    // The low part is -0, because +0 would change a result of -0 to +0.
    Wide { hi: x.sqrt(), lo: isa.f64(-0.0), exponent: None }
}

/// Returns an upper and a lower estimate of 1 / sqrt(x), each rounded to f32. x must be accepted by [`rsqrt_serves`].
/// If the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn rsqrt_pair<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    /// Bound on the relative error. The Newton step squares the relative error of `y`.
    const RELATIVE: f32 = 1.0 / (1u64 << 42) as f32;
    let (zero, one) = (isa.f32(0.0), isa.f32(1.0));
    let y = one / x.sqrt();
    let square = y * y;
    let square_low = y.mul_add(y, zero - square);
    let rest = (zero - x).mul_add(square, one) - x * square_low;
    round(isa, y, y * (rest * isa.f32(0.5)), y, RELATIVE)
}

/// Returns the lanes in which [`rsqrt_pair`] is valid. In these lanes, all intermediate squares are normal f32.
#[inline(always)]
pub fn rsqrt_serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(1e-25).lt(x) & x.lt(isa.f32(1e25))
}

/// Computes 1 / sqrt(x), for any x. At a zero, the result is infinity with the sign of the zero. Below zero, it is NaN.
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
    // First-order corrections of the rounding errors of the root and the quotient.
    let of_root = (minus - root).mul_add(root, x);
    let of_quotient = (minus - hi).mul_add(root, one);
    let lo = hi * (of_quotient - of_root * isa.f64(0.5) * hi * hi);
    // At x = 0 and x = infinity, the low part is zero times infinity, which is NaN, so it is replaced by 0.
    let lo = I::F64::select(lo.is_nan(), isa.f64(0.0), lo);
    Wide { hi: hi * back, lo: lo * back, exponent: None }
}
