//! Functions that CORE-MATH lacks, computed in f64 with an error bound.
//!
//! u is 2^-53, the largest relative error of a sum, a product or a quotient of f64. CORE-MATH's functions of f64 are
//! meant to be correctly rounded, with an error of at most u. Not all of them are proven yet, so the bounds assume 2u.
//! Each bound is the sum of such errors to first order, rounded up by far more than the neglected products of errors.
//! An f32, its square and its half are exact in f64.

use crate::bracket::Bracket;

const U: f64 = f64::EPSILON / 2.0;

/// Magnitude below which silu, gelu and gelu_tanh are x/2 plus a positive remainder of less than an f64 ULP of x/2.
///
/// These functions are `x/2 * (1 + t)`, where `t` is `tanh(x/2)`, `erf(x / sqrt 2)` or
/// `tanh(sqrt(2/pi) * (x + 0.044715 * x^3))`. `t` has the sign of `x` and a smaller magnitude. So the remainder,
/// `x/2 * t`, is positive and less than 2^-60 of x/2. It decides the rounding if x is an odd multiple of the smallest
/// subnormal f32, because x/2 is then a midpoint of two f32.
const TINY: f64 = f64::from_bits((1023 - 60) << 52);

/// Bracket of negative numbers above -2^-155. They round to -0, because half of the smallest f32 is 2^-150.
const MINUS_ZERO: Bracket = Bracket { low: -f64::from_bits((1023 - 155) << 52), high: -0.0 };

fn is_tiny(x: f64) -> bool {
    x != 0.0 && x.abs() < TINY
}

/// Encloses `1 / (1 + e^-x)`.
///
/// The exponential's relative error is 2u. The relative error that it causes in the sum is at most 2u, because both
/// terms are positive. The sum and the quotient add u each. The bound is 4u. If the exponential overflows f64, the
/// result is 0, and the exact value is between 0 and 2^-1000.
pub fn sigmoid(x: f32) -> Bracket {
    Bracket::around(1.0 / (1.0 + core_math::exp(-f64::from(x))), 4.0 * U)
}

/// Encloses `x / (1 + e^-x)`. The steps and the bound are the same as in [`sigmoid`].
pub fn silu(x: f32) -> Bracket {
    let x = f64::from(x);
    if is_tiny(x) {
        return Bracket::just_above(x / 2.0);
    }
    // The limit at minus infinity; the quotient of two infinities would be NaN.
    let value = if x == f64::NEG_INFINITY { -0.0 } else { x / (1.0 + core_math::exp(-x)) };
    Bracket::around(value, 4.0 * U)
}

/// Encloses `ln(1 + e^x)`. It is computed as `ln(1 + e^-|x|)`, plus `x` if `x` is positive.
///
/// The exponential `t` has a relative error of 2u. The logarithm multiplies this error by `t / ((1 + t) * ln(1 + t))`,
/// which is less than 1, and adds 2u of its own. The sum of positive terms adds u. The bound is 5u.
pub fn softplus(x: f32) -> Bracket {
    let x = f64::from(x);
    let log = core_math::log1p(core_math::exp(-x.abs()));
    Bracket::around(if x > 0.0 { x + log } else { log }, 5.0 * U)
}

/// Encloses `-ln(1 + e^-x)`.
pub fn log_sigmoid(x: f32) -> Bracket {
    let Bracket { low, high } = softplus(-x);
    Bracket { low: -high, high: -low }
}

/// Encloses `x * (1 + erf(x / sqrt 2)) / 2`, computed as `x/2 * erfc(z)` with `z = -x / sqrt 2`.
///
/// `z` has a relative error of 2u: u from its constant and u from its product. `erfc` multiplies this error by
/// `c = z * 2/sqrt(pi) * e^(-z^2) / erfc(z)`. For `z > 0`, `c` is less than `z * (z + sqrt(z^2 + 2))`, which is less
/// than `2 * z^2 + 1 = x^2 + 1` (Abramowitz and Stegun, 7.1.13). For `z <= 0`, `erfc` is at least 1, and the magnitude
/// of `c` is less than 1. The computation of `erfc` adds an error of 2u, and the product with x/2 adds u. The bound is
/// `(2 * x^2 + 5) * u` for negative `x`, and 5u for other `x`.
///
/// For `x < -15`, the magnitude is less than `e^(-x^2/2) / sqrt(2 * pi) < 2^-163`, so the function rounds to -0.
pub fn gelu(x: f32) -> Bracket {
    let x = f64::from(x);
    if is_tiny(x) {
        return Bracket::just_above(x / 2.0);
    }
    if x < -15.0 {
        return MINUS_ZERO;
    }
    let value = 0.5 * x * core_math::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    let growth = x.min(0.0);
    Bracket::around(value, (2.0 * growth * growth + 5.0) * U)
}

/// Encloses `x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) / 2`, computed as `x / (1 + e^-v)`. Here
/// `v = sqrt(8/pi) * x * (1 + 0.044715 * x^2)`.
///
/// The quadratic term has a relative error of 2u, from its constant and its product. The sum of positive terms adds u,
/// the products with x and with the constant add u each, and the constant itself has an error of u. So `v` has an error
/// of 6u, which causes an error of `6 * |v| * u` in the exponential. The exponential adds 2u of its own. The sum and
/// the quotient add u each. So the bound is `(6 * |v| + 4) * u` for negative `x`. For other `x` the exponential is at
/// most 1, and its relative error changes the sum by at most `e^-v` times this error. Since `v * e^-v < 0.4`, the bound
/// is 7u.
///
/// For `x < -11`, `v` is less than -112 and the magnitude is less than `11 * e^-112 < 2^-158`, so the function rounds
/// to -0.
pub fn gelu_tanh(x: f32) -> Bracket {
    /// The constant sqrt(8/pi).
    const SLOPE: f64 = 1.595_769_121_605_730_7;
    let x = f64::from(x);
    if is_tiny(x) {
        return Bracket::just_above(x / 2.0);
    }
    if x < -11.0 {
        return MINUS_ZERO;
    }
    let v = SLOPE * (x * (1.0 + 0.044_715 * (x * x)));
    Bracket::around(x / (1.0 + core_math::exp(-v)), (6.0 * v.min(0.0).abs() + 7.0) * U)
}
