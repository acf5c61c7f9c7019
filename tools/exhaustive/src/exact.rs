//! Functions to any number of bits, by MPFR.
//!
//! Functions that MPFR has are correctly rounded there, and it says whether they are exact. The others are formulas of
//! a few steps, each correctly rounded.

use rug::Float;
use rug::float::{Constant, Round};
use std::cmp::Ordering;

/// A number as MPFR has it.
pub struct Value {
    /// The number.
    pub number: Float,
    /// Whether it is the very number, not only off by less than 2^-(bits - 32) of itself.
    pub is_exact: bool,
}

/// A function of a number to so many bits.
pub type Exact = fn(&Float, u32) -> Value;

/// Bits that a number is computed with beyond those that are asked of it.
///
/// Formulas lose fewer than 24 where the result is in f32's range: what they lose grows with x^2 or with |v| of
/// gelu_tanh at most, as in [`crate::formulas`], and there x is less than 2^7 in magnitude, or the growth is none. Of
/// results far below that range only sign and smallness are needed.
const GUARD: u32 = 32;

/// The bits to begin with, and those to give up at.
const BITS: [u32; 2] = [128, 4096];

/// The nearest f32, ties to even, by way of an f64 that is rounded to odd, so that the second rounding sees on which
/// side of a middle the number lies. MPFR's own way, in this version of rug, rounds subnormal numbers twice.
fn nearest(number: &Float) -> f32 {
    let toward_zero = number.to_f64_round(Round::Zero);
    let is_exact = *number == toward_zero;
    f64::from_bits(toward_zero.to_bits() | u64::from(!is_exact)) as f32
}

/// The nearest f32 of a function, ties to even; `Err` with the bits that did not tell.
pub fn rounded(exact: Exact, x: f32) -> Result<f32, u32> {
    let x = Float::with_val(24, x);
    let mut bits = BITS[0];
    loop {
        let Value { number, is_exact } = exact(&x, bits + GUARD);
        // The functions underflow to the zero of their sign, and are infinite where f32 is.
        if is_exact || !number.is_normal() {
            return Ok(nearest(&number));
        }
        let margin = Float::with_val(GUARD, number.abs_ref()) >> bits;
        let low = nearest(&Float::with_val(bits + GUARD, &number - &margin));
        let high = nearest(&Float::with_val(bits + GUARD, &number + &margin));
        if low.to_bits() == high.to_bits() {
            return Ok(low);
        }
        if bits == BITS[1] {
            return Err(bits);
        }
        bits *= 2;
    }
}

/// How far `got` is from the function, in units in the last place of an f32 of the function's size. Infinite where one
/// of both is infinite or not a number, or has another sign than the correctly rounded result, `expected`.
pub fn error_in_ulp(exact: Exact, x: f32, got: f32, expected: f32) -> f64 {
    if !got.is_finite() || !expected.is_finite() || got.is_sign_negative() != expected.is_sign_negative() {
        return f64::INFINITY;
    }
    let number = exact(&Float::with_val(24, x), BITS[0] + GUARD).number;
    let exponent = number.get_exp().unwrap_or(i32::MIN).max(f32::MIN_EXP);
    let distance = Float::with_val(BITS[0], number - got).abs();
    (distance >> (exponent - f32::MANTISSA_DIGITS as i32)).to_f64()
}

macro_rules! of_mpfr {
    ($($name:ident: $method:ident, $what:literal;)*) => {$(
        #[doc = $what]
        pub fn $name(x: &Float, bits: u32) -> Value {
            let (number, rounding) = Float::with_val_round(bits, x.$method(), Round::Nearest);
            Value { number, is_exact: rounding == Ordering::Equal }
        }
    )*};
}

of_mpfr! {
    exp: exp_ref, "e^x.";
    exp2: exp2_ref, "2^x.";
    expm1: exp_m1_ref, "e^x - 1.";
    log: ln_ref, "ln x.";
    log2: log2_ref, "The logarithm to base 2.";
    log1p: ln_1p_ref, "ln(1 + x).";
    tanh: tanh_ref, "The hyperbolic tangent.";
    erf: erf_ref, "The error function.";
    sqrt: sqrt_ref, "The square root.";
    reciprocal: recip_ref, "1 / x.";
}

fn formula(number: Float) -> Value {
    Value { number, is_exact: false }
}

/// 1 / (1 + e^-x) of a number that may be rounded.
fn logistic(x: Float) -> Float {
    ((-x).exp() + 1u32).recip()
}

/// x times a factor, whose limit at minus infinity is 0.
fn times(x: &Float, factor: Float) -> Value {
    let limit = x.is_infinite() && x.is_sign_negative();
    formula(if limit { -Float::new(factor.prec()) } else { factor * x })
}

/// 1 / sqrt(x), which MPFR has, but with +inf at -0.
pub fn rsqrt(x: &Float, bits: u32) -> Value {
    formula(Float::with_val(bits, x.sqrt_ref()).recip())
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: &Float, bits: u32) -> Value {
    formula(logistic(Float::with_val(bits, x)))
}

/// x / (1 + e^-x).
pub fn silu(x: &Float, bits: u32) -> Value {
    times(x, logistic(Float::with_val(bits, x)))
}

/// ln(1 + e^x).
pub fn softplus(x: &Float, bits: u32) -> Value {
    let log = (-Float::with_val(bits, x.abs_ref())).exp().ln_1p();
    formula(if *x > 0 { log + x } else { log })
}

/// -ln(1 + e^-x).
pub fn log_sigmoid(x: &Float, bits: u32) -> Value {
    formula(-softplus(&Float::with_val(x.prec(), -x), bits).number)
}

/// x (1 + erf(x / sqrt 2)) / 2.
pub fn gelu(x: &Float, bits: u32) -> Value {
    let z = -Float::with_val(bits, x) / Float::with_val(bits, 2u32).sqrt();
    times(x, z.erfc() / 2u32)
}

/// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
pub fn gelu_tanh(x: &Float, bits: u32) -> Value {
    let slope = (Float::with_val(bits, Constant::Pi).recip() * 8u32).sqrt();
    let square = Float::with_val(bits, x.square_ref());
    times(x, logistic(slope * (square * 44_715u32 / 1_000_000u32 + 1u32) * x))
}
