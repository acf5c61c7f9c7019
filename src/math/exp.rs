//! The exponential as the sum of two f64.
//!
//! x is `n * ln2 + r` with an integer n and |r| <= ln2/2. e^r is `1 + r + r^2 * q(r)`, where q is a polynomial of
//! degree 10. The relative error of this formula is 2^-60.3. r is kept as two f64. The two f64 of the result are not
//! added, so that the caller rounds once. The error is 0.65 ULP in f64. In every narrower type, the result is correctly
//! rounded.

use super::wide::{Wide, fast_two_sum, horner, horner_halves};
use crate::element::Element;
use crate::simd::{Float, Int, Isa, Select};

const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// ln 2 rounded to 42 bits. The product of this number with n is exact.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fefa_3800);
const LN2_LO: f64 = f64::from_bits(0x3d2e_f357_93c7_6730);
/// 1.5 * 2^52. Adding it to a number rounds the number to an integer. This integer is in the low bits of the sum.
const SHIFTER: f64 = 6_755_399_441_055_744.0;
/// Coefficients of (e^r - 1 - r) / r^2 on |r| <= ln2/2.
pub const POLY: [f64; 11] = [
    0.5,
    f64::from_bits(0x3fc5_5555_5555_555c),
    f64::from_bits(0x3fa5_5555_5555_555e),
    f64::from_bits(0x3f81_1111_1110_ebb2),
    f64::from_bits(0x3f56_c16c_16c1_3570),
    f64::from_bits(0x3f2a_01a0_1b3b_b2b6),
    f64::from_bits(0x3efa_01a0_1b45_ab8c),
    f64::from_bits(0x3ec7_1dde_f93b_9d4e),
    f64::from_bits(0x3e92_7e4b_f291_af05),
    f64::from_bits(0x3e5a_f6cc_cf19_77c3),
    f64::from_bits(0x3e21_f9df_719b_67ac),
];

/// Representation of e^x as `(1 + high + low) * 2^n`, for exp and expm1.
struct Reduced<I: Isa> {
    /// Remainder r of [`split`].
    high: I::F64,
    /// e^r - 1 - r, plus the rounding error of r.
    low: I::F64,
    n: I::I64,
}

/// Splits x into `n * ln2 + r`. Returns r, its rounding error, and n. |x| must be at most about 2^20.
#[inline(always)]
pub fn split<I: Isa>(isa: I, x: I::F64) -> (I::F64, I::F64, I::I64) {
    let shifter = isa.f64(SHIFTER);
    let shifted = x.mul_add(isa.f64(LOG2_E), shifter);
    let n = shifted.to_bits() - shifter.to_bits();
    let float_n = shifted - shifter;
    let near = float_n.mul_add(isa.f64(-LN2_HI), x);
    let r = float_n.mul_add(isa.f64(-LN2_LO), near);
    (r, float_n.mul_add(isa.f64(-LN2_LO), near - r), n)
}

/// Splits `x` with [`split`] and evaluates the polynomial.
#[inline(always)]
fn reduce<I: Isa>(isa: I, x: I::F64) -> Reduced<I> {
    let (r, r_low, n) = split(isa, x);
    let q = horner(isa, r, &POLY);
    Reduced { high: r, low: (r * r).mul_add(q, r_low), n }
}

/// Computes e^(x + low), with the power of two as a separate exponent. |x| must be at most about 2^20.
#[inline(always)]
pub fn exp_parts<I: Isa>(isa: I, x: I::F64, low: I::F64) -> Wide<I> {
    isa.call(
        (x, low),
        #[inline(always)]
        |isa, (x, low)| {
            let Reduced { high, low: rest, n } = reduce(isa, x);
            let (hi, error) = fast_two_sum(isa.f64(1.0), high);
            // The factor e^low is approximated by 1 + low.
            Wide { hi, lo: low.mul_add(hi + rest, error + rest), exponent: Some(n) }
        },
    )
}

/// Computes e^x for x <= 0, for use as a term of a sum. The error is about 1 ULP. For x below -700 the result is 0.
#[inline(always)]
pub fn term<I: Isa>(isa: I, x: I::F64) -> I::F64 {
    isa.call(
        x,
        #[inline(always)]
        |isa, x| {
            let counts = isa.f64(-700.0).le(x);
            let (r, _, n) = split(isa, x.max(isa.f64(-700.0)));
            let power = (r * r).mul_add(horner_halves(isa, r, &POLY), r) + isa.f64(1.0);
            I::F64::select(counts, I::F64::from_bits(power.to_bits() + n.shl::<52>()), isa.f64(0.0))
        },
    )
}

/// Clamps `x` to the range from `exp_min - 1` to `exp_max + 1` of `E`. The exponential is 0 at the lower end and
/// infinite at the upper end. NaN stays NaN.
#[inline(always)]
pub fn clamped<I: Isa, E: Element>(isa: I, x: I::F64) -> I::F64 {
    isa.f64(E::LIMITS.exp_max + 1.0).min(isa.f64(E::LIMITS.exp_min - 1.0).max(x))
}

/// Computes e^x, for any x.
#[inline(always)]
pub fn exp<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    without_nan::<I, E>(isa, x, exp_parts(isa, clamped::<I, E>(isa, x), isa.f64(0.0)))
}

/// Sets the exponent of `power` to 0 in lanes where x is NaN. Adding an exponent to the bits of a NaN would change the
/// NaN. If `E` is f64, the exponents stay, because they are applied by multiplication.
#[inline(always)]
pub fn without_nan<I: Isa, E: Element>(isa: I, x: I::F64, power: Wide<I>) -> Wide<I> {
    if E::IS_F64 {
        return power;
    }
    let zero = isa.f64(0.0).to_bits();
    Wide { exponent: power.exponent.map(|n| I::I64::select(x.is_nan(), zero, n)), ..power }
}

/// Computes e^x - 1 for -40 <= x <= 0, as a sum of two f64.
#[inline(always)]
pub fn expm1_parts<I: Isa>(isa: I, x: I::F64) -> (I::F64, I::F64) {
    let Reduced { high, low, n } = reduce(isa, x);
    let power = super::wide::power_of_two(isa, n);
    let (hi, error) = fast_two_sum(power - isa.f64(1.0), high * power);
    (hi, error + low * power)
}

/// Converts e^x, for x <= 0, to a sum of two f64 without a separate exponent. The result is 0 for x below -690.
#[inline(always)]
pub fn exp_below_one<I: Isa>(isa: I, parts: &Wide<I>, x: I::F64) -> (I::F64, I::F64) {
    let power = match parts.exponent {
        Some(n) => super::wide::power_of_two(isa, n),
        None => isa.f64(1.0),
    };
    let power = I::F64::select(x.lt(isa.f64(-690.0)), isa.f64(0.0), power);
    (parts.hi * power, parts.lo * power)
}
