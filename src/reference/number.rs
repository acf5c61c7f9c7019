//! Floats of other crates as numbers of the specification.

use super::{DoubleDouble, Real};
use num_traits::{Float, ToPrimitive};
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A float of another crate, such as a double-double or an interval's end, as a number that the functions of
/// [`reference`](mod@crate::reference) compute with. Its own functions decide how accurate they are; sines and cosines
/// are [`DoubleDouble`]'s.
///
/// ```
/// use evenkeel::reference::{Number, Real, softmax_of};
/// use twofloat::TwoFloat; // any `num_traits::Float` that is `From<f64>`
/// let probs = softmax_of(&[3.0, 3.0].map(Number::<TwoFloat>::from)).unwrap();
/// assert_eq!(probs[0].to_f64(), 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Number<T>(pub T);

impl<T: From<f64>> From<f64> for Number<T> {
    fn from(value: f64) -> Self {
        Number(T::from(value))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl<T: $trait<Output = T>> $trait for Number<T> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Number(self.0.$method(other.0))
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
            Number(self.0.$name())
        }
    )*};
}

impl<T: Float + From<f64> + Debug> Real for Number<T> {
    functions!(exp, exp_m1, exp2, ln, ln_1p, log2, sqrt, tanh);

    fn to_f64(self) -> f64 {
        ToPrimitive::to_f64(&self.0).unwrap_or(f64::NAN)
    }
    fn from_double_double(value: DoubleDouble) -> Self {
        let high = value.to_f64();
        let low = (value - DoubleDouble::from(high)).to_f64();
        // What an infinity leaves out is NaN.
        if low.is_nan() { Self::from(high) } else { Self::from(high) + Self::from(low) }
    }
    fn sin_cos(angle: f64) -> (Self, Self) {
        let (sin, cos) = DoubleDouble::sin_cos(angle);
        (Self::from_double_double(sin), Self::from_double_double(cos))
    }
}
