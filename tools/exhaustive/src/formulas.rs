//! Functions that CORE-MATH does not have, in f64 with a bound of their error.
//!
//! u is 2^-53: a sum, a product or a quotient of f64 is off by at most u of itself. CORE-MATH's functions of f64 are
//! meant to be correctly rounded, which is u; 2u is what is relied upon, since not all of them are proven yet. Each
//! bound is the sum of such errors to first order, rounded up by far more than the products of errors left out.
//! An f32, its square and its half are f64 without an error.

use crate::bracket::Bracket;

const U: f64 = f64::EPSILON / 2.0;

/// Below this magnitude silu and both gelu are x/2 and a positive rest of less than an ULP of x/2 in f64.
///
/// They are x/2 (1 + t), with t = tanh(x/2), erf(x/sqrt 2) or tanh(sqrt(2/pi) (x + 0.044715 x^3)), which has the sign
/// of x and less than its magnitude. So the rest, x t / 2, is positive, and less than 2^-60 of x/2. It matters: half of
/// an odd subnormal f32 is the middle between two others.
const TINY: f64 = f64::from_bits((1023 - 60) << 52);

/// Negative numbers that round to -0: less than 2^-150 in magnitude, half of the smallest f32.
const MINUS_ZERO: Bracket = Bracket { low: -f64::from_bits((1023 - 155) << 52), high: -0.0 };

fn is_tiny(x: f64) -> bool {
    x != 0.0 && x.abs() < TINY
}

/// 1 / (1 + e^-x).
///
/// The power is off by 2u, and the sum by no more of itself, for its parts are positive, plus u; the quotient adds u:
/// 4u. A power beyond f64 makes it 0, which it is short of by less than 2^-1000.
pub fn sigmoid(x: f32) -> Bracket {
    Bracket::around(1.0 / (1.0 + core_math::exp(-f64::from(x))), 4.0 * U)
}

/// x / (1 + e^-x): the bound of [`sigmoid`], whose quotient it has.
pub fn silu(x: f32) -> Bracket {
    let x = f64::from(x);
    if is_tiny(x) {
        return Bracket::just_above(x / 2.0);
    }
    // The limit; the quotient would be of two infinities.
    let value = if x == f64::NEG_INFINITY { -0.0 } else { x / (1.0 + core_math::exp(-x)) };
    Bracket::around(value, 4.0 * U)
}

/// ln(1 + e^x), as ln(1 + e^-|x|) plus x where x is positive.
///
/// The power, t, is off by 2u, the logarithm by no larger a part, as t / ((1 + t) ln(1 + t)) < 1, and by 2u of its own;
/// the sum of positive parts adds u: 5u.
pub fn softplus(x: f32) -> Bracket {
    let x = f64::from(x);
    let log = core_math::log1p(core_math::exp(-x.abs()));
    Bracket::around(if x > 0.0 { x + log } else { log }, 5.0 * U)
}

/// -ln(1 + e^-x).
pub fn log_sigmoid(x: f32) -> Bracket {
    let Bracket { low, high } = softplus(-x);
    Bracket { low: -high, high: -low }
}

/// x (1 + erf(x / sqrt 2)) / 2, as x/2 erfc(z) with z = -x / sqrt 2.
///
/// z is off by 2u, its constant's u and its own. For z > 0, an error of z becomes one of erfc that is larger by
/// z 2/sqrt(pi) e^(-z^2) / erfc(z), which is below z (z + sqrt(z^2 + 2)) < 2z^2 + 1 = x^2 + 1 (Abramowitz and Stegun,
/// 7.1.13); for z <= 0, where erfc is at least 1, by less than 1. With erfc's 2u and the product's u: (2x^2 + 5) u for
/// negative x, 5u for others.
///
/// Below -15 it is less than e^(-x^2/2) / sqrt(2 pi) < 2^-163 in magnitude, and rounds to -0.
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

/// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, as x / (1 + e^-v) with v = sqrt(8/pi) x (1 + 0.044715 x^2).
///
/// The term with the square is off by 2u, its constant's and the product's; the sum of positive parts adds u, the
/// products with x and the constant u each, and the constant itself is off by u: 6u of v, so 6|v| u of the power, which
/// has 2u of its own. The sum and the quotient add u each: (6|v| + 4) u for negative x. For others the power is at most
/// 1, its part in the sum below e^-v, and v e^-v < 0.4: 7u.
///
/// Below -11, where v < -112, it is less than 11 e^-112 < 2^-158 in magnitude, and rounds to -0.
pub fn gelu_tanh(x: f32) -> Bracket {
    /// sqrt(8/pi).
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
