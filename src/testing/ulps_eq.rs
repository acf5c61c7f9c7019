//! The traits of the crate approx, for every storage type.

use super::compare::show;
use super::ulp;
use crate::element::Element;
use approx::{AbsDiffEq, RelativeEq, UlpsEq};
use std::fmt;

/// Wrapper of a value for the macros of [`approx`](https://docs.rs/approx). Unlike approx itself, it also supports f16
/// and bf16.
///
/// ULPs are counted in the storage type. The only tolerance is the given one. In contrast, approx's comparison of `f32`
/// also accepts an absolute difference of up to epsilon, so every result below epsilon equals zero. As in approx, NaN
/// is not equal to anything.
///
/// ```
/// use approx::{assert_abs_diff_ne, assert_relative_eq, assert_ulps_eq, assert_ulps_ne};
/// use evenkeel::testing::Ulps;
/// use half::bf16;
///
/// let (one, next) = (bf16::from_f32(1.0), bf16::from_f32(1.0078125));
/// assert_ulps_eq!(Ulps(one), Ulps(next), max_ulps = 1);
/// assert_ulps_ne!(Ulps(one), Ulps(next), max_ulps = 0);
/// assert_relative_eq!(Ulps(one), Ulps(next), max_relative = 0.01);
/// assert_abs_diff_ne!(Ulps(1e-9f32), Ulps(0.0));
/// assert_ulps_eq!(Ulps::all(&[1.0f32, 2.0])[..], Ulps::all(&[1.0, 2.0])[..], max_ulps = 0);
/// ```
#[derive(Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "it wraps one value")]
pub struct Ulps<E>(pub E);

impl<E: Element> Ulps<E> {
    /// Wraps each value of a slice.
    pub fn all(values: &[E]) -> Vec<Self> {
        values.iter().map(|&value| Ulps(value)).collect()
    }
}

impl<E: Element> fmt::Debug for Ulps<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0))
    }
}

impl<E: Element> AbsDiffEq for Ulps<E> {
    type Epsilon = f64;

    fn default_epsilon() -> f64 {
        0.0
    }

    fn abs_diff_eq(&self, other: &Self, epsilon: f64) -> bool {
        // The difference of equal infinities is NaN, so they are compared first.
        self == other || (self.0.widen() - other.0.widen()).abs() <= epsilon
    }
}

impl<E: Element> RelativeEq for Ulps<E> {
    fn default_max_relative() -> f64 {
        E::LIMITS.epsilon
    }

    fn relative_eq(&self, other: &Self, epsilon: f64, max_relative: f64) -> bool {
        let (a, b) = (self.0.widen(), other.0.widen());
        let bound = a.abs().max(b.abs()) * max_relative;
        self.abs_diff_eq(other, epsilon) || (bound.is_finite() && (a - b).abs() <= bound)
    }
}

impl<E: Element> UlpsEq for Ulps<E> {
    fn default_max_ulps() -> u32 {
        4
    }

    fn ulps_eq(&self, other: &Self, epsilon: f64, max_ulps: u32) -> bool {
        let is_number = !self.0.widen().is_nan() && !other.0.widen().is_nan();
        self.abs_diff_eq(other, epsilon) || (is_number && ulp::distance(self.0, other.0) <= u64::from(max_ulps))
    }
}
