//! The logistic function in f64 with a low part.

use super::exp::{exp_below_one, exp_parts};
use super::wide::{Wide, fast_two_sum};
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

/// Returns an argument below which sigmoid and silu both round to zero. It is 10 less than the corresponding argument
/// of exp, because silu multiplies by x.
#[inline(always)]
pub fn lowest<E: Element>() -> f64 {
    E::LIMITS.exp_min - 10.0
}

/// Computes 1 / (1 + e^-x), for any x.
#[inline(always)]
pub fn sigmoid<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let zero = isa.f64(0.0);
    logistic::<I, E>(isa, zero - x.abs(), zero, x.lt(zero))
}

/// Computes 1 / (1 + t), or t / (1 + t) where `negative` is set, for t = e^(minus + low) with `minus` <= 0. Nothing
/// overflows and nothing cancels.
#[inline(always)]
pub fn logistic<I: Isa, E: Element>(isa: I, minus: I::F64, low: I::F64, negative: I::M64) -> Wide<I> {
    let one = isa.f64(1.0);
    let zero = isa.f64(0.0);
    let minus = isa.f64(lowest::<E>()).max(minus);
    let t = exp_parts(isa, minus, low).normalised();
    let (t_high, t_low) = exp_below_one(isa, &t, minus);
    let (d, d_low) = fast_two_sum(one, t_high);
    let d_low = d_low + t_low;
    let n = I::F64::select(negative, t.hi, one);
    let n_low = I::F64::select(negative, t.lo, zero);
    let reciprocal = one / d;
    let q = n * reciprocal;
    let rest = (zero - q).mul_add(d, n) + (zero - q).mul_add(d_low, n_low);
    let none = isa.f64(0.0).to_bits();
    Wide { hi: q, lo: rest * reciprocal, exponent: t.exponent.map(|e| I::I64::select(negative, e, none)) }
}

/// Computes x times a factor from 0 to 1.
#[inline(always)]
pub fn times<I: Isa>(isa: I, x: I::F64, share: Wide<I>) -> Wide<I> {
    let hi = x * share.hi;
    let lo = x.mul_add(share.hi, isa.f64(0.0) - hi) + x * share.lo;
    // At +inf the low part is infinity - infinity, which is NaN, so it is replaced by 0. At -0 the low part must be -0,
    // because +0 would change the sign of the result.
    let lo = I::F64::select(lo.is_nan(), isa.f64(0.0), lo);
    Wide { hi, lo: I::F64::select(x.eq(isa.f64(0.0)), x, lo), exponent: share.exponent }
}

/// Computes x / (1 + e^-x), for any x.
#[inline(always)]
pub fn silu<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let x = isa.f64(lowest::<E>()).max(x);
    times(isa, x, sigmoid::<I, E>(isa, x))
}
