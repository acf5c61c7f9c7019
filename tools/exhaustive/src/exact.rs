//! Functions at any precision, computed by MPFR.
//!
//! MPFR correctly rounds the functions that it provides, and reports whether a result is exact. The other functions are
//! formulas of a few steps. Each step is correctly rounded.

use rug::Float;
use rug::float::{Constant, Round};
use std::cmp::Ordering;

/// Result of a function at high precision.
pub struct Value {
    /// The computed number.
    pub number: Float,
    /// Whether the number is exact. Otherwise its relative error is below 2^-(bits - 32).
    pub is_exact: bool,
}

/// A function of a number and of the precision in bits.
pub type Exact = fn(&Float, u32) -> Value;

/// Number of bits by which the working precision exceeds the requested precision.
///
/// If the result is in f32's range, a formula loses fewer than 24 bits. The formula's relative error grows no faster
/// than `x^2`, or no faster than `|v|` for gelu_tanh, with `v` as in [`crate::formulas`]. Where the error grows,
/// results in this range have `|x|` and `|v|` below 2^7, so the growth costs about 14 bits at most. For results far
/// below f32's range, only the sign and an upper bound of the magnitude matter.
const GUARD: u32 = 32;

/// Initial precision, and the precision at which the program gives up.
const BITS: [u32; 2] = [128, 4096];

/// Returns the nearest f32, ties to even. The number is first rounded to f64 by round-to-odd, so that the second
/// rounding still sees on which side of a midpoint the number lies. rug's own conversion to f32 is not used, because in
/// this version it rounds subnormal numbers twice.
fn nearest(number: &Float) -> f32 {
    let toward_zero = number.to_f64_round(Round::Zero);
    let is_exact = *number == toward_zero;
    f64::from_bits(toward_zero.to_bits() | u64::from(!is_exact)) as f32
}

/// Returns the f32 nearest to the function's value, ties to even. If even the largest precision does not decide the
/// rounding, returns that precision as an error.
pub fn rounded(exact: Exact, x: f32) -> Result<f32, u32> {
    let x = Float::with_val(24, x);
    let mut bits = BITS[0];
    loop {
        let Value { number, is_exact } = exact(&x, bits + GUARD);
        // If the number is zero, infinite or NaN, so is the f32 result, and no more bits are needed. A function that
        // underflows gives a zero of the right sign, and a function that overflows is infinite in f32 too.
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

/// Returns the distance of `got` from the function's exact value, in ULPs of an f32 of that value's size.
///
/// `expected` is the correctly rounded result. Returns infinity if `got` or `expected` is infinite or NaN, or if their
/// signs differ.
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
    exp: exp_ref, "Computes e^x.";
    exp2: exp2_ref, "Computes 2^x.";
    expm1: exp_m1_ref, "Computes e^x - 1.";
    log: ln_ref, "Computes ln x.";
    log2: log2_ref, "Computes the logarithm to base 2.";
    log1p: ln_1p_ref, "Computes ln(1 + x).";
    tanh: tanh_ref, "Computes the hyperbolic tangent.";
    erf: erf_ref, "Computes the error function.";
    sqrt: sqrt_ref, "Computes the square root.";
    reciprocal: recip_ref, "Computes 1 / x.";
}

fn formula(number: Float) -> Value {
    Value { number, is_exact: false }
}

/// Computes 1 / (1 + e^-x).
fn logistic(x: Float) -> Float {
    ((-x).exp() + 1u32).recip()
}

/// Computes x times a factor. As x approaches minus infinity, the factor vanishes faster than x grows. At minus
/// infinity, the result is -0.
fn times(x: &Float, factor: Float) -> Value {
    let limit = x.is_infinite() && x.is_sign_negative();
    formula(if limit { -Float::new(factor.prec()) } else { factor * x })
}

/// Computes `1 / sqrt(x)`. MPFR provides this function, but returns +inf at -0.
pub fn rsqrt(x: &Float, bits: u32) -> Value {
    formula(Float::with_val(bits, x.sqrt_ref()).recip())
}

/// Computes 1 / (1 + e^-x).
pub fn sigmoid(x: &Float, bits: u32) -> Value {
    formula(logistic(Float::with_val(bits, x)))
}

/// Computes x / (1 + e^-x).
pub fn silu(x: &Float, bits: u32) -> Value {
    times(x, logistic(Float::with_val(bits, x)))
}

/// Computes ln(1 + e^x).
pub fn softplus(x: &Float, bits: u32) -> Value {
    let log = (-Float::with_val(bits, x.abs_ref())).exp().ln_1p();
    formula(if *x > 0 { log + x } else { log })
}

/// Computes -ln(1 + e^-x).
pub fn log_sigmoid(x: &Float, bits: u32) -> Value {
    formula(-softplus(&Float::with_val(x.prec(), -x), bits).number)
}

/// Computes x (1 + erf(x / sqrt 2)) / 2.
pub fn gelu(x: &Float, bits: u32) -> Value {
    let z = -Float::with_val(bits, x) / Float::with_val(bits, 2u32).sqrt();
    times(x, z.erfc() / 2u32)
}

/// Computes x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
pub fn gelu_tanh(x: &Float, bits: u32) -> Value {
    let derivative = (Float::with_val(bits, Constant::Pi).recip() * 8u32).sqrt();
    let square = Float::with_val(bits, x.square_ref());
    times(x, logistic(derivative * (square * 44_715u32 / 1_000_000u32 + 1u32) * x))
}
