//! Number types of the reference functions.

#![forbid(unsafe_code)]

mod double_double;

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

pub use double_double::DoubleDouble;

/// Number type of the reference results. It has far more digits than the results that are compared with the reference.
/// The trait is implemented by `f64`, [`DoubleDouble`] and, with the feature `num-traits`, floats of other crates
/// wrapped in `reference::Number`.
///
/// Infinities and NaN behave as in IEEE 754.
///
/// ```
/// use evenkeel::reference::{DoubleDouble, Real};
/// fn softplus<R: Real>(x: R) -> R {
///     x.exp().ln_1p()
/// }
/// assert_eq!(softplus(0.0), std::f64::consts::LN_2);
/// assert_eq!(softplus(DoubleDouble::from(0.0)).to_f64(), std::f64::consts::LN_2);
/// ```
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + From<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Returns the nearest f64, ties to even.
    fn to_f64(self) -> f64;
    /// Converts `value` to the nearest number of this type.
    fn from_double_double(value: DoubleDouble) -> Self;
    /// Returns e^x.
    fn exp(self) -> Self;
    /// Returns e^x - 1, with full accuracy near zero.
    fn exp_m1(self) -> Self;
    /// Returns 2^x.
    fn exp2(self) -> Self;
    /// Returns ln x, which is NaN below zero and -inf at zero.
    fn ln(self) -> Self;
    /// Returns ln(1 + x), with full accuracy near zero.
    fn ln_1p(self) -> Self;
    /// Returns log2 x, which is NaN below zero and -inf at zero.
    fn log2(self) -> Self;
    /// Returns the square root, which is NaN below zero.
    fn sqrt(self) -> Self;
    /// Returns the hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Returns the sine and the cosine of an angle in radians. The f64 angle is taken as exact and may have any
    /// magnitude. If the angle is not finite, both results are NaN.
    fn sin_cos(angle: f64) -> (Self, Self);

    /// Returns whether the number is NaN.
    #[allow(clippy::eq_op)]
    fn is_nan(self) -> bool {
        self != self
    }

    /// Returns the magnitude.
    fn abs(self) -> Self {
        // Adding zero turns -0 into +0.
        if self < Self::from(0.0) { -self } else { self + Self::from(0.0) }
    }
}

/// Sine and cosine are Evenkeel's own. All other functions are those of the standard library, whose relative error is
/// at most 2^-51 on the platforms that tests run on.
impl Real for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn from_double_double(value: DoubleDouble) -> Self {
        value.to_f64()
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn exp_m1(self) -> Self {
        f64::exp_m1(self)
    }
    fn exp2(self) -> Self {
        f64::exp2(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn ln_1p(self) -> Self {
        f64::ln_1p(self)
    }
    fn log2(self) -> Self {
        f64::log2(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    /// Computes the sine and the cosine in [`DoubleDouble`], because standard libraries lose digits for large angles
    /// near a multiple of pi/2.
    fn sin_cos(angle: f64) -> (Self, Self) {
        let (sin, cos) = DoubleDouble::sin_cos(angle);
        (sin.to_f64(), cos.to_f64())
    }
}
