//! ln(1 + x) in f64 with a low part: the logarithm of 1 + x rounded, with what the rounding left out carried along.

use super::log::{exponent_and_fraction, parts};
use super::wide::{Wide, fast_two_sum, two_sum};
use crate::simd::{Float, Int, Isa, Select};

/// Beyond it a 1 does not show.
const LARGE: f64 = 1e30;
/// Below 2^-54 in magnitude, the result is x - x^2/2 to twice the digits of f64.
const TINY: f64 = f64::from_bits((1023 - 54) << 52);

/// ln(1 + x + low) as a sum, for x + low above -1 and `low` below half a unit in the last place of x; x at least
/// [`TINY`] in magnitude, or so large that f64 doesn't get to its subnormal numbers in halving it.
#[inline(always)]
pub fn log1p_sum<I: Isa>(isa: I, x: I::F64, low: Option<I::F64>) -> (I::F64, I::F64) {
    let (sum, rest) = two_sum(isa.f64(1.0), x);
    let (biased, fraction) = exponent_and_fraction(isa, sum.to_bits());
    let k = I::F64::from_bits(biased | isa.f64(4_503_599_627_370_496.0).to_bits()) - isa.f64(4_503_599_627_371_519.0);
    // 2^-k.
    let scale = I::F64::from_bits((isa.i64(2046) - biased).shl::<52>());
    // What is beyond has a scale that is no power of two.
    let rest = I::F64::select(isa.f64(LARGE).lt(x), isa.f64(0.0), rest * scale);
    let (f, f_low) = fast_two_sum(fraction - isa.f64(1.0), rest);
    let f_low = match low {
        None => f_low,
        Some(low) => low.mul_add(scale, f_low),
    };
    parts(isa, f, Some(f_low), k)
}

/// ln(1 + x), for any x: NaN below -1, -inf there.
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
