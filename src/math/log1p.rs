//! ln(1 + x) as the sum of two f64: the logarithm of the rounded sum 1 + x, corrected by the sum's rounding error.

use super::log::{exponent_and_fraction, parts};
use super::wide::{Wide, fast_two_sum, two_sum};
use crate::simd::{Float, Int, Isa, Select};

/// Argument beyond which adding 1 has no effect.
const LARGE: f64 = 1e30;
/// Magnitude of x, 2^-54, below which x - x^2/2 equals ln(1 + x) to twice the digits of f64.
const TINY: f64 = f64::from_bits((1023 - 54) << 52);

/// Computes ln(1 + x + low) as a sum of two f64. x + low must be above -1, and |low| below half a unit in the last
/// place of x. |x| must be so large that half of x^2 is not subnormal.
#[inline(always)]
pub fn log1p_sum<I: Isa>(isa: I, x: I::F64, low: Option<I::F64>) -> (I::F64, I::F64) {
    let (sum, rest) = two_sum(isa.f64(1.0), x);
    let (biased, fraction) = exponent_and_fraction(isa, sum.to_bits());
    let k = I::F64::from_bits(biased | isa.f64(4_503_599_627_370_496.0).to_bits()) - isa.f64(4_503_599_627_371_519.0);
    let scale = I::F64::from_bits((isa.i64(2046) - biased).shl::<52>());
    // `scale` is 2^-k. For x above LARGE, `scale` may be invalid and `rest` is negligible, so `rest` is set to 0.
    let rest = I::F64::select(isa.f64(LARGE).lt(x), isa.f64(0.0), rest * scale);
    let (f, f_low) = fast_two_sum(fraction - isa.f64(1.0), rest);
    let f_low = match low {
        None => f_low,
        Some(low) => low.mul_add(scale, f_low),
    };
    parts(isa, f, Some(f_low), k)
}

/// Computes ln(1 + x), for any x. The result is NaN for x below -1, and -inf for x = -1.
#[inline(always)]
pub fn log1p<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    let (hi, lo) = log1p_sum(isa, x, None);
    let tiny = x.abs().lt(isa.f64(TINY));
    let hi = I::F64::select(tiny, x, hi);
    let lo = I::F64::select(tiny, x * x * isa.f64(-0.5), lo);
    let infinity = isa.f64(f64::INFINITY);
    let hi = I::F64::select(x.eq(infinity), infinity, hi);
    let hi = I::F64::select(x.eq(isa.f64(-1.0)), isa.f64(f64::NEG_INFINITY), hi);
    let hi = I::F64::select(!isa.f64(-1.0).le(x), isa.f64(f64::NAN), hi);
    Wide { hi, lo, exponent: None }
}
