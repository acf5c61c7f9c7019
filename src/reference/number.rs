//! Floats of other crates as numbers for the reference functions.

use super::{DoubleDouble, Real};
use num_traits::Float;
use std::cmp::Ordering;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A float of another crate, such as a double-double or an interval endpoint, wrapped as a [`Real`] number for the
/// functions of [`reference`](mod@crate::reference). The accuracy of results depends on the float's own functions.
/// Sines and cosines are computed as [`DoubleDouble`]. Operations on infinities and NaN are computed in f64, because
/// the floats of other crates do not agree on such operations.
///
/// ```
/// use evenkeel::reference::{Number, Real, softmax_of};
/// use twofloat::TwoFloat; // any `num_traits::Float` that is `From<f64>`
/// let probs = softmax_of(&[3.0, 3.0].map(Number::<TwoFloat>::from)).unwrap();
/// assert_eq!(probs[0].to_f64(), 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "it wraps one number")]
pub struct Number<T>(pub T);

impl<T: From<f64>> From<f64> for Number<T> {
    fn from(value: f64) -> Self {
        Number(T::from(value))
    }
}

/// Compares the numbers rounded to f64. If the rounded numbers are equal and finite, the order of the wrapped floats
/// decides.
impl<T: Float> PartialOrd for Number<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match f64_of(self.0).partial_cmp(&f64_of(other.0)) {
            Some(Ordering::Equal) if f64_of(self.0).is_finite() => self.0.partial_cmp(&other.0),
            order => order,
        }
    }
}

fn f64_of<T: Float>(value: T) -> f64 {
    value.to_f64().unwrap_or(f64::NAN)
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl<T: Float + From<f64>> $trait for Number<T> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                match (f64_of(self.0), f64_of(other.0)) {
                    (a, b) if a.is_finite() && b.is_finite() => Number(self.0.$method(other.0)),
                    (a, b) => Self::from(a.$method(b)),
                }
            }
        }
    )*};
}
operators!(Add add, Sub sub, Mul mul, Div div);

impl<T: Neg<Output = T>> Neg for Number<T> {
    type Output = Self;
    fn neg(self) -> Self {
        Number(-self.0)
    }
}

macro_rules! functions {
    ($($name:ident),*) => {$(
        fn $name(self) -> Self {
            match f64_of(self.0) {
                x if x.is_finite() => Number(self.0.$name()),
                x => Self::from(x.$name()),
            }
        }
    )*};
}

impl<T: Float + From<f64> + Debug> Real for Number<T> {
    functions!(exp, exp_m1, exp2, ln, ln_1p, log2, sqrt, tanh);

    fn to_f64(self) -> f64 {
        f64_of(self.0)
    }
    fn from_double_double(value: DoubleDouble) -> Self {
        let high = value.to_f64();
        let low = (value - DoubleDouble::from(high)).to_f64();
        // `low` is NaN if `value` is infinite or NaN. In this case, `high` is the result.
        if low.is_nan() { Self::from(high) } else { Self::from(high) + Self::from(low) }
    }
    fn sin_cos(angle: f64) -> (Self, Self) {
        let (sin, cos) = DoubleDouble::sin_cos(angle);
        (Self::from_double_double(sin), Self::from_double_double(cos))
    }
}
