//! Derivatives of the element-wise functions, each as the sum of two f64, and products of a derivative and a gradient.
//!
//! Most derivatives are quotients and products of positive numbers, without cancellation. Only the derivatives of silu,
//! gelu and gelu_tanh are sums of two terms that cancel near the zeros of the derivative. Each of these terms is kept
//! as the sum of two f64.

use super::exp::{exp_below_one, exp_parts};
use super::wide::{Wide, fast_two_sum, power_of_two, product, quotient, two_sum};
use crate::element::{DType, Element};
use crate::simd::{Float, Isa, Select};

/// 2 / sqrt(pi).
const TWO_OVER_ROOT_PI: [f64; 2] = [f64::from_bits(0x3ff2_0dd7_5042_9b6d), f64::from_bits(0x3c71_ae3a_914f_ed80)];
/// 1.5 * 2^52. Adding it to an integer leaves the integer in the low bits of the sum.
const SHIFTER: f64 = 6_755_399_441_055_744.0;

/// Returns a number x so large that a * b * e^-x is zero for any two finite numbers a and b of type `E`. Likewise, a *
/// b * e^x is infinite for any two nonzero numbers.
pub const fn far<E: Element>() -> f64 {
    match E::DTYPE {
        DType::F64 => 2400.0,
        _ => 300.0,
    }
}

/// Clamps x to the range from -`limit` to `limit`. NaN stays NaN.
#[inline(always)]
pub fn within<I: Isa>(isa: I, x: I::F64, limit: f64) -> I::F64 {
    isa.f64(limit).min(isa.f64(-limit).max(x))
}

/// Computes e^(x + low), for any x.
#[inline(always)]
pub fn exp<I: Isa, E: Element>(isa: I, x: I::F64, low: I::F64) -> Wide<I> {
    exp_parts(isa, within(isa, x, far::<E>()), low).normalised()
}

/// Computes the derivative of erf, `2 / sqrt(pi) * e^(-x^2)`, for any x.
#[inline(always)]
pub fn erf<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    // The function `exp` clamps the exponent again, because the rounded square may be slightly larger than the limit.
    let x = within(isa, x, far::<E>().sqrt());
    let minus = isa.f64(-0.0) - x;
    let power = x * minus;
    let e = exp::<I, E>(isa, power, x.mul_add(minus, isa.f64(-0.0) - power));
    let [factor, factor_low] = TWO_OVER_ROOT_PI;
    let (hi, lo) = product(isa, (e.hi, e.lo), (isa.f64(factor), isa.f64(factor_low)));
    Wide { hi, lo, ..e }
}

/// The numbers t = e^z and 1 + t, for an exponent z <= 0. [`Logistic::new`] gets z as two f64, `minus` and `low`, with
/// z = `minus` + `low`.
struct Logistic<I: Isa> {
    /// t with its power of two as a separate exponent.
    t: Wide<I>,
    /// t as a sum of two f64, without a separate exponent. It is 0 where `minus` is below -690.
    plain: (I::F64, I::F64),
    /// 1 + t.
    d: (I::F64, I::F64),
}

impl<I: Isa> Logistic<I> {
    #[inline(always)]
    fn new<E: Element>(isa: I, minus: I::F64, low: I::F64) -> Self {
        let minus = isa.f64(-far::<E>()).max(minus);
        let t = exp_parts(isa, minus, low).normalised();
        let plain = exp_below_one(isa, &t, minus);
        let (d, d_low) = fast_two_sum(isa.f64(1.0), plain.0);
        Logistic { t, plain, d: (d, d_low + plain.1) }
    }
}

/// Computes t / (1 + t)^2 with t = e^minus. `minus` must be at most 0.
#[inline(always)]
pub fn logistic<I: Isa, E: Element>(isa: I, minus: I::F64) -> Wide<I> {
    let Logistic { t, d, .. } = Logistic::new::<E>(isa, minus, isa.f64(0.0));
    let square = product(isa, d, d);
    let (hi, lo) = quotient(isa, (t.hi, t.lo), square, isa.f64(1.0) / square.0);
    Wide { hi, lo, ..t }
}

/// Computes 1 / (1 + t), or t / (1 + t) in lanes where `negative` is set. Here t is e^minus, and `minus` must be at
/// most 0.
#[inline(always)]
pub fn share<I: Isa, E: Element>(isa: I, minus: I::F64, negative: I::M64) -> Wide<I> {
    let Logistic { t, d, .. } = Logistic::new::<E>(isa, minus, isa.f64(0.0));
    let n = I::F64::select(negative, t.hi, isa.f64(1.0));
    let n_low = I::F64::select(negative, t.lo, isa.f64(0.0));
    let (hi, lo) = quotient(isa, (n, n_low), d, isa.f64(1.0) / d.0);
    Wide { hi, lo, exponent: only_where(isa, negative, t.exponent) }
}

/// Computes `s + w * s * (1 - s)` with `s = 1 / (1 + e^-z)`. w must have the sign of z. If z is a function of x and w
/// is `x * z'`, the result is the derivative of `x * s`.
///
/// Let t be e^-|z|. The result is `(1 + t + w * t) / (1 + t)^2` where z >= 0, and `t * (1 + t + w) / (1 + t)^2` where
/// z < 0. The arguments are -|z|, w, and the mask of the lanes in which z < 0. -|z| and w are sums of two f64.
#[inline(always)]
pub fn gate<I: Isa, E: Element>(
    isa: I,
    (minus, low): (I::F64, I::F64),
    (w, w_low): (I::F64, I::F64),
    negative: I::M64,
) -> Wide<I> {
    let Logistic { t, plain, d } = Logistic::new::<E>(isa, minus, low);
    let (above, above_low) = product(isa, (w, w_low), plain);
    let second = I::F64::select(negative, w, above);
    let (b, error) = two_sum(d.0, second);
    let b_low = error + (d.1 + I::F64::select(negative, w_low, above_low));
    let a = (I::F64::select(negative, t.hi, isa.f64(1.0)), I::F64::select(negative, t.lo, isa.f64(0.0)));
    let square = product(isa, d, d);
    let (hi, lo) = quotient(isa, product(isa, a, (b, b_low)), square, isa.f64(1.0) / square.0);
    Wide { hi, lo, exponent: only_where(isa, negative, t.exponent) }
}

/// Returns `exponent` in lanes where `mask` is set, and 0 in the other lanes.
#[inline(always)]
pub fn only_where<I: Isa>(isa: I, mask: I::M64, exponent: Option<I::I64>) -> Option<I::I64> {
    exponent.map(
        #[inline(always)]
        |n| I::I64::select(mask, n, isa.i64(0)),
    )
}

/// Computes `-1/2 * dy * x^(-3/2)` for x >= 0, the gradient `dy` times the derivative of 1 / sqrt(x). This derivative
/// alone may be out of f64's range.
#[inline(always)]
pub fn times_rsqrt<I: Isa, E: Element>(isa: I, dy: I::F64, x: I::F64) -> I::F64 {
    // A tiny gradient is scaled up. Otherwise its product with 1 / sqrt(x) could be subnormal although the result is
    // not.
    let tiny = dy.abs().lt(isa.f64(f64::from_bits((1023 - 900) << 52)));
    let one = isa.f64(1.0);
    let up = I::F64::select(tiny, isa.f64(f64::from_bits((1023 + 110) << 52)), one);
    let back = I::F64::select(tiny, isa.f64(f64::from_bits((1023 - 110) << 52)), one);
    let Wide { hi, lo, .. } = super::sqrt::rsqrt::<I, E>(isa, x);
    let zero = isa.f64(0.0);
    let (p, p_low) = product(isa, (dy * up * isa.f64(-0.5), zero), (hi, lo));
    let q = p / x;
    let rest = ((isa.f64(-0.0) - q).mul_add(x, p) + p_low) / x;
    // Where x is 0 or infinite, `rest` is NaN or infinite, so 0 is added in its place.
    (q + I::F64::select(rest.abs().lt(isa.f64(f64::INFINITY)), rest, zero)) * back
}

/// Multiplies `dy` by the derivative `(hi + lo) * 2^exponent`, and rounds the product to f64. If `E` is narrower,
/// storing the product rounds it again. |hi + lo| must be between 2^-60 and 2^60. Only a derivative that is a sum of
/// two cancelling terms may be smaller, or 0. If it is 0, the sign of the product depends on `E`.
#[inline(always)]
pub fn times<I: Isa, E: Element>(isa: I, dy: I::F64, derivative: Wide<I>) -> I::F64 {
    isa.call(
        (dy, derivative),
        #[inline(always)]
        |isa, (dy, derivative)| {
            let n = match derivative.exponent {
                Some(n) => n,
                None => isa.i64(0),
            };
            if !E::IS_F64 {
                return (derivative.hi + derivative.lo) * power_of_two(isa, n) * dy;
            }
            // A very large or very small gradient is scaled towards 1. The derivative's exponent compensates for this
            // scaling.
            let abs = dy.abs();
            let tiny = abs.lt(isa.f64(f64::from_bits((1023 - 400) << 52)));
            let huge = isa.f64(f64::from_bits((1023 + 400) << 52)).lt(abs);
            const UP: f64 = f64::from_bits((1023 + 600) << 52);
            const DOWN: f64 = f64::from_bits((1023 - 600) << 52);
            let dy = dy * I::F64::select(tiny, isa.f64(UP), I::F64::select(huge, isa.f64(DOWN), isa.f64(1.0)));
            let hi = dy * derivative.hi;
            let lo = dy.mul_add(derivative.hi, isa.f64(-0.0) - hi) + dy * derivative.lo;
            // For an infinite product, the computed error is infinity - infinity, which is NaN, so it is set to 0.
            let lo = I::F64::select(lo.is_nan(), isa.f64(0.0), lo);
            // The product is between 2^-540 and 2^540 in magnitude. An exponent beyond 1700 in magnitude therefore
            // gives 0 or infinity.
            let shifter = isa.f64(SHIFTER);
            let n = I::F64::from_bits(n + shifter.to_bits()) - shifter;
            let moved = I::F64::select(tiny, isa.f64(-600.0), I::F64::select(huge, isa.f64(600.0), isa.f64(0.0)));
            let n = within(isa, n + moved, 1700.0);
            let exponent = (n + shifter).to_bits() - shifter.to_bits();
            Wide { hi, lo, exponent: Some(exponent) }.round::<f64>(isa)
        },
    )
}
