//! ln(1 + e^x) in f64 with a low part, and ln(e^a + e^b).

use super::exp::{exp_below_one, exp_parts};
use super::log1p::log1p_sum;
use super::sigmoid::lowest;
use super::wide::{Wide, two_sum};
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

/// Argument below which ln(1 + e^x) equals e^x to 65 bits.
const FAR: f64 = -45.0;

/// Computes max(x, 0) + ln(1 + e^-|x|), for any x. Nothing overflows and nothing cancels.
#[inline(always)]
pub fn softplus<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let zero = isa.f64(0.0);
    let minus = isa.f64(lowest::<E>()).max(zero - x.abs());
    let t = exp_parts(isa, minus, zero).normalised();
    let (t_high, t_low) = exp_below_one(isa, &t, minus);
    let (log, log_low) = log1p_sum(isa, t_high, Some(t_low));
    let (hi, error) = two_sum(x.max(zero), log);
    let lo = error + log_low;
    // At +inf the low part is infinity - infinity, which is NaN, so it is replaced by 0.
    let lo = I::F64::select(lo.is_nan(), zero, lo);
    if !E::IS_F64 {
        return Wide { hi, lo, exponent: None };
    }
    // The exponent is returned separately, so that results that are subnormal in f64 are rounded only once.
    let far = x.lt(isa.f64(FAR));
    let none = zero.to_bits();
    let exponent = match t.exponent {
        Some(n) => I::I64::select(far, n, none),
        None => none,
    };
    Wide { hi: I::F64::select(far, t.hi, hi), lo: I::F64::select(far, t.lo, lo), exponent: Some(exponent) }
}

/// Computes -ln(1 + e^-x).
#[inline(always)]
pub fn log_sigmoid<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let minus_zero = isa.f64(-0.0);
    let Wide { hi, lo, exponent } = softplus::<I, E>(isa, minus_zero - x);
    Wide { hi: minus_zero - hi, lo: minus_zero - lo, exponent }
}

/// Computes ln(e^a + e^b), as the larger of a and b plus ln(1 + e^-|a - b|).
#[inline(always)]
pub fn log_add_exp<I: Isa, E: Element>(isa: I, a: I::F64, b: I::F64) -> Wide<I> {
    let (zero, minus_zero) = (isa.f64(0.0), isa.f64(-0.0));
    let above = a.lt(b);
    let (high, low) = (I::F64::select(above, b, a), I::F64::select(above, a, b));
    let (minus, rest) = two_sum(low, minus_zero - high);
    // If a and b are far apart, the rounding error of the difference is negligible or NaN, so this error is replaced by
    // 0.
    let lowest = isa.f64(lowest::<E>());
    let rest = I::F64::select(minus.lt(lowest), zero, rest);
    let t = exp_parts(isa, lowest.max(minus), rest).normalised();
    let (t_high, t_low) = exp_below_one(isa, &t, lowest.max(minus));
    let (mut log, mut log_low) = log1p_sum(isa, t_high, Some(t_low));
    if E::IS_F64 {
        // If `minus` is below FAR, the logarithm equals t. t may be subnormal in f64, so t is rounded before the
        // addition.
        let far = minus.lt(isa.f64(FAR));
        log = I::F64::select(far, t.round::<f64>(isa), log);
        log_low = I::F64::select(far, zero, log_low);
    }
    let (hi, error) = two_sum(high, log);
    let lo = error + log_low;
    // If `hi` is infinite, the low part is infinity - infinity, which is NaN, so the low part is replaced by 0. If a
    // and b are the same infinity, `hi` is NaN, so `hi` is replaced by a.
    let lo = I::F64::select(hi.abs().lt(isa.f64(f64::INFINITY)), lo, zero);
    let equal = a.eq(b) & a.abs().eq(isa.f64(f64::INFINITY));
    Wide { hi: I::F64::select(equal, a, hi), lo: I::F64::select(equal, zero, lo), exponent: None }
}
