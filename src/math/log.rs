//! The natural logarithm as the sum of two f64.
//!
//! x = 2^k m with m in [sqrt(1/2), sqrt(2)), and f = m - 1 is exact. With s = f / (2 + f), log m = 2s + s R(s^2), where
//! R is a minimax polynomial (error 2^-61.5). s is kept as two f64. R is small, so its rounding has little effect: the
//! error is 0.55 ULP in f64, and the result is correctly rounded in every narrower type.

use super::wide::{Wide, fast_two_sum, horner};
use crate::simd::{Float, Int, Isa, Select};

/// ln 2 rounded to 41 bits. The product of this number with k is exact.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fefa_3000);
const LN2_LO: f64 = f64::from_bits(0x3d53_de6a_f278_ece6);
const SQRT_HALF_BITS: i64 = 0x3fe6_a09e_667f_3bcd;
const ONE_BITS: i64 = 0x3ff0_0000_0000_0000;
const FRACTION: i64 = 0x000f_ffff_ffff_ffff;
const TWO_52: f64 = 4_503_599_627_370_496.0;
/// Coefficients of (log((1+s)/(1-s))/s - 2) / s^2 in powers of s^2.
const POLY: [f64; 8] = [
    f64::from_bits(0x3fe5_5555_5555_5555),
    f64::from_bits(0x3fd9_9999_9999_9e00),
    f64::from_bits(0x3fd2_4924_9242_b310),
    f64::from_bits(0x3fcc_71c7_2591_0e22),
    f64::from_bits(0x3fc7_45cd_e2f9_3b07),
    f64::from_bits(0x3fc3_b20a_c999_30e9),
    f64::from_bits(0x3fc0_f5cb_1706_0c32),
    f64::from_bits(0x3fc0_f63e_9a45_79ae),
];

/// Computes ln x, for any x. The result is NaN for x below zero, and -inf for x = 0.
#[inline(always)]
pub fn log<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    let (f, k) = split(isa, x);
    let (hi, lo) = parts(isa, f, None, k);
    at_the_ends(isa, x, hi, lo)
}

/// Returns f and k of x = 2^k (1 + f), with f in [sqrt(1/2) - 1, sqrt(2) - 1), for positive finite x.
#[inline(always)]
pub fn split<I: Isa>(isa: I, x: I::F64) -> (I::F64, I::F64) {
    // Subnormal numbers are scaled to normal ones first.
    let tiny = x.lt(isa.f64(f64::MIN_POSITIVE));
    let bits = I::F64::select(tiny, x * isa.f64(4.0 * TWO_52), x).to_bits();
    let (exponent, m) = exponent_and_fraction(isa, bits);
    let biased = I::F64::from_bits(exponent | isa.f64(TWO_52).to_bits());
    let bias = I::F64::select(tiny, isa.f64(TWO_52 + 1023.0 + 54.0), isa.f64(TWO_52 + 1023.0));
    (m - isa.f64(1.0), biased - bias)
}

/// Completes a logarithm that is valid only for positive finite x: sets the results for infinity, zero, negative
/// numbers and NaN.
#[inline(always)]
pub fn at_the_ends<I: Isa>(isa: I, x: I::F64, hi: I::F64, lo: I::F64) -> Wide<I> {
    let zero = isa.f64(0.0);
    let infinity = isa.f64(f64::INFINITY);
    let hi = I::F64::select(x.eq(infinity), infinity, hi);
    let hi = I::F64::select(x.eq(zero), isa.f64(f64::NEG_INFINITY), hi);
    let hi = I::F64::select(!zero.le(x), isa.f64(f64::NAN), hi);
    Wide { hi, lo, exponent: None }
}

/// Splits a positive normal number x = 2^k m, given by its bits. Returns k + 1023 and m.
#[inline(always)]
pub fn exponent_and_fraction<I: Isa>(isa: I, bits: I::I64) -> (I::I64, I::F64) {
    let offset = bits + isa.i64(ONE_BITS - SQRT_HALF_BITS);
    (offset.shr::<52>(), I::F64::from_bits((offset & isa.i64(FRACTION)) + isa.i64(SQRT_HALF_BITS)))
}

/// Computes ln(1 + f + low) + k ln2 for f in [sqrt(1/2) - 1, sqrt(2) - 1).
#[inline(always)]
pub fn parts<I: Isa>(isa: I, f: I::F64, low: Option<I::F64>, k: I::F64) -> (I::F64, I::F64) {
    isa.call(
        (f, low, k),
        #[inline(always)]
        |isa, (f, low, k)| {
            let two = isa.f64(2.0);
            let d = f + two;
            let s = f / d;
            // Remainder of the division f / (2 + f). The reciprocal of 2 + f is (1 - s) / 2.
            let rest = (isa.f64(0.0) - s).mul_add(d, f) - s * (f - (d - two));
            let rest = match low {
                None => rest,
                Some(low) => rest + (low - s * low),
            };
            let s_low = rest * s.mul_add(isa.f64(-0.5), isa.f64(0.5));
            let z = s * s;
            let r = horner(isa, z, &POLY);
            let (sum, error) = fast_two_sum(k * isa.f64(LN2_HI), s * two);
            let small = (s * z).mul_add(r, s_low.mul_add(two, k * isa.f64(LN2_LO)));
            fast_two_sum(sum, error + small)
        },
    )
}

/// Computes ln(1 + x) of one number x >= 0, rounded to f64, within 0.7 ULP. The largest error found is 0.66 ULP.
#[inline(always)]
pub fn log1p_scalar<I: Isa>(isa: I, x: f64) -> f64 {
    let (sum, low) = fast_two_sum_scalar(1.0, x);
    let Wide { hi, lo, .. } = log(isa, isa.f64(sum));
    let (hi, lo) = (isa.array_f64(hi)[0], isa.array_f64(lo)[0]);
    hi + (lo + low / sum)
}

/// Computes ln x of one number, as a sum of two f64.
#[inline(always)]
pub fn log_scalar<I: Isa>(isa: I, x: f64) -> (f64, f64) {
    let Wide { hi, lo, .. } = log(isa, isa.f64(x));
    (isa.array_f64(hi)[0], isa.array_f64(lo)[0])
}

/// Returns `a + b` and its rounding error, for a = 1 and b >= 0 of any size.
#[inline(always)]
fn fast_two_sum_scalar(a: f64, b: f64) -> (f64, f64) {
    let (a, b) = if a > b { (a, b) } else { (b, a) };
    let sum = a + b;
    (sum, b - (sum - a))
}
