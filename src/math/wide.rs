//! Results with more digits and range than f64: an unevaluated sum times a power of two, rounded once at the end.

use crate::element::Element;
use crate::simd::{Float, Int, Isa, Select};

/// Number `(hi + lo) * 2^exponent`, with `|lo|` at most a quarter of `|hi|`.
#[derive(Clone, Copy)]
pub struct Wide<I: Isa> {
    pub hi: I::F64,
    pub lo: I::F64,
    /// Integer exponent. `None` means 2^0.
    pub exponent: Option<I::I64>,
}

/// Returns `a + b` and its rounding error, where `|a| >= |b|` or `a` is zero (Dekker, 1971).
#[inline(always)]
pub fn fast_two_sum<F: Float>(a: F, b: F) -> (F, F) {
    let sum = a + b;
    (sum, b - (sum - a))
}

/// Returns `a + b` and its rounding error, for `a` and `b` of any size (Knuth, 1969).
#[inline(always)]
pub fn two_sum<F: Float>(a: F, b: F) -> (F, F) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// Computes a product. Both factors and the result are unevaluated sums.
#[inline(always)]
pub fn product<I: Isa>(isa: I, (a, a_low): (I::F64, I::F64), (b, b_low): (I::F64, I::F64)) -> (I::F64, I::F64) {
    let hi = a * b;
    let error = a.mul_add(b, isa.f64(-0.0) - hi);
    (hi, error + a.mul_add(b_low, a_low * b))
}

/// Computes n / d. Both operands and the result are unevaluated sums. `reciprocal` is 1 / `d.0`.
#[inline(always)]
pub fn quotient<I: Isa>(isa: I, n: (I::F64, I::F64), d: (I::F64, I::F64), reciprocal: I::F64) -> (I::F64, I::F64) {
    let q = n.0 * reciprocal;
    let minus = isa.f64(-0.0) - q;
    let rest = minus.mul_add(d.0, n.0) + minus.mul_add(d.1, n.1);
    (q, rest * reciprocal)
}

/// Evaluates the polynomial with these coefficients. The constant term is the first.
#[inline(always)]
pub fn horner<I: Isa>(isa: I, x: I::F64, coefficients: &[f64]) -> I::F64 {
    let Some((&last, rest)) = coefficients.split_last() else { return isa.f64(0.0) };
    let mut sum = isa.f64(last);
    for &c in rest.iter().rev() {
        sum = sum.mul_add(x, isa.f64(c));
    }
    sum
}

/// Evaluates a polynomial as [`horner`] does, with even and odd powers in two chains. Two chains halve the number of
/// dependent steps.
///
/// Each iteration takes two coefficients and does not branch between the chains, because compilers unroll such a loop.
#[inline(always)]
pub fn horner_halves<I: Isa>(isa: I, x: I::F64, coefficients: &[f64]) -> I::F64 {
    let square = x * x;
    let (first, pairs) = coefficients.as_rchunks::<2>();
    let Some((&[low, high], pairs)) = pairs.split_last() else { return horner(isa, x, first) };
    let (mut low, mut high) = (isa.f64(low), isa.f64(high));
    for &[l, h] in pairs.iter().rev() {
        low = low.mul_add(square, isa.f64(l));
        high = high.mul_add(square, isa.f64(h));
    }
    match first {
        &[c] => low.mul_add(x, high.mul_add(square, isa.f64(c))),
        _ => high.mul_add(x, low),
    }
}

/// Evaluates a polynomial as [`horner`] does, in f32.
#[inline(always)]
pub fn horner_narrow<I: Isa>(isa: I, x: I::F32, coefficients: &[f32]) -> I::F32 {
    let Some((&last, rest)) = coefficients.split_last() else { return isa.f32(0.0) };
    let mut sum = isa.f32(last);
    for &c in rest.iter().rev() {
        sum = sum.mul_add(x, isa.f32(c));
    }
    sum
}

impl<I: Isa> Wide<I> {
    /// Returns the same number with a low part below half a unit in the last place of the high part.
    #[inline(always)]
    pub fn normalised(self) -> Self {
        let (hi, lo) = fast_two_sum(self.hi, self.lo);
        Wide { hi, lo, ..self }
    }

    /// Rounds to f64, so that the later conversion to `E` gives the same result as a single rounding.
    ///
    /// For `E` narrower than f64, an inexact sum is rounded to the neighbouring f64 whose last bit is 1 (to odd). Then
    /// only the rounding to `E` affects the result (Boldo and Melquiond, 2008). For these types, the exponent of the
    /// result is well within f64's range.
    #[inline(always)]
    pub fn round<E: Element>(self, isa: I) -> I::F64 {
        let (sum, error) = fast_two_sum(self.hi, self.lo);
        if E::IS_F64 {
            return match self.exponent {
                None => sum,
                Some(exponent) => scale(isa, sum, exponent),
            };
        }
        let odd = to_odd(isa, sum, error);
        match self.exponent {
            None => odd,
            Some(exponent) => I::F64::from_bits(odd.to_bits() + exponent.shl::<52>()),
        }
    }
}

/// Makes the last bit of an inexact sum 1 (rounding to odd). If this bit is 0, the sum moves by one unit in the last
/// place, in the direction of its rounding error.
#[inline(always)]
fn to_odd<I: Isa>(isa: I, sum: I::F64, error: I::F64) -> I::F64 {
    let bits = sum.to_bits();
    let zero = isa.f64(0.0);
    let inexact = zero.lt(error.abs());
    let even = (bits & isa.i64(1)).eq(isa.i64(0));
    // Step away from zero if the sum and the error have the same sign. The sign bits are compared, because the product
    // of the sum and the error could underflow.
    let away = (bits.shr::<63>()).eq(error.to_bits().shr::<63>());
    let step = I::I64::select(away, isa.i64(1), isa.i64(-1));
    I::F64::from_bits(I::I64::select(inexact & even, bits + step, bits))
}

/// Computes `value * 2^exponent` for exponents from -2100 to 2000, rounded once.
#[inline(always)]
fn scale<I: Isa>(isa: I, value: I::F64, exponent: I::I64) -> I::F64 {
    // Half of the exponent, rounded toward minus infinity. The offset is needed because the shift is logical.
    let half = (exponent + isa.i64(4096)).shr::<1>() - isa.i64(2048);
    value * power_of_two(isa, half) * power_of_two(isa, exponent - half)
}

/// Returns `2^exponent`, which must be a normal number.
#[inline(always)]
pub fn power_of_two<I: Isa>(isa: I, exponent: I::I64) -> I::F64 {
    I::F64::from_bits((exponent + isa.i64(1023)).shl::<52>())
}
