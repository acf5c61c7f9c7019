//! ln(1 + e^x) in f64 with a low part.

use super::exp::{exp_below_one, exp_parts};
use super::log1p::log1p_sum;
use super::sigmoid::lowest;
use super::wide::{Wide, two_sum};
use crate::element::{DType, Element};
use crate::simd::{Float, Isa, Select};

/// Below it ln(1 + e^x) is e^x to 65 bits.
const FAR: f64 = -45.0;

/// max(x, 0) + ln(1 + e^-|x|), for any x: nothing overflows and nothing cancels.
#[inline(always)]
pub fn softplus<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let zero = isa.f64(0.0);
    let minus = isa.f64(lowest::<E>()).max(zero - x.abs());
    let t = exp_parts(isa, minus, zero).normalised();
    let (t_high, t_low) = exp_below_one(isa, &t, minus);
    let (log, log_low) = log1p_sum(isa, t_high, Some(t_low));
    let (hi, error) = two_sum(x.max(zero), log);
    let lo = error + log_low;
    // At +inf the sum has no error, though infinity less itself says NaN.
    let lo = I::F64::select(lo.is_nan(), zero, lo);
    if E::DTYPE != DType::F64 {
        return Wide { hi, lo, exponent: None };
    }
    // Results that f64 holds as subnormal numbers have their power of two apart.
    let far = x.lt(isa.f64(FAR));
    let none = zero.to_bits();
    let exponent = match t.exponent {
        Some(n) => I::I64::select(far, n, none),
        None => none,
    };
    Wide { hi: I::F64::select(far, t.hi, hi), lo: I::F64::select(far, t.lo, lo), exponent: Some(exponent) }
}

/// -ln(1 + e^-x).
#[inline(always)]
pub fn log_sigmoid<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let minus_zero = isa.f64(-0.0);
    let Wide { hi, lo, exponent } = softplus::<I, E>(isa, minus_zero - x);
    Wide { hi: minus_zero - hi, lo: minus_zero - lo, exponent }
}
