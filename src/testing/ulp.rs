//! Units in the last place of a storage type.

use super::values::Bits;
use crate::element::Element;
use crate::reference::Real;
use half::{bf16, f16};

/// A number that results are compared with: a number type of [`mod@crate::reference`], or a stored value.
pub trait Expected: Copy {
    /// Number type with more digits than the storage type of the results.
    type Wide: Real;
    /// Returns the number in the wide type, unrounded.
    fn wide(self) -> Self::Wide;
}

impl<R: Real> Expected for R {
    type Wide = R;
    fn wide(self) -> R {
        self
    }
}

macro_rules! stored {
    ($($type:ty),*) => {$(
        impl Expected for $type {
            type Wide = f64;
            fn wide(self) -> f64 {
                self.widen()
            }
        }
    )*};
}
stored!(f32, f16, bf16);

/// Returns the ULP at a magnitude: the distance between neighbouring values of the type.
///
/// At zero and for subnormal numbers, this is the smallest subnormal number. At the largest value and beyond, it is the
/// distance from the largest value to the next lower one.
///
/// ```
/// use evenkeel::testing::ulp;
/// use half::bf16;
/// assert_eq!(ulp::size::<bf16>(256.0), 2.0); // so a sum of ones in bf16 stops growing there
/// ```
pub fn size<E: Element>(magnitude: f64) -> f64 {
    let limits = E::LIMITS;
    let exponent_bits = magnitude.abs().clamp(limits.min_normal, limits.max).to_bits() >> 52 << 52;
    f64::from_bits(exponent_bits) * limits.epsilon
}

/// Returns the error of a stored value in ULPs of the exact value. Correct rounding gives at most 0.5.
///
/// ```
/// use evenkeel::testing::ulp;
/// assert_eq!(ulp::error(1.0f32, 1.0 + f64::from(f32::EPSILON) / 4.0), 0.25);
/// assert_eq!(ulp::error(f32::NAN, 1.0), f64::INFINITY);
/// ```
pub fn error<E: Element, X: Expected>(got: E, exact: X) -> f64 {
    error_at(got, exact, toward_zero(exact))
}

/// Returns the error of a stored value in ULPs at the magnitude `at`.
///
/// A stored infinity is correct for every exact value that rounds to it. If the exact value exceeds the largest finite
/// number, but does not round to the infinity, the infinity is measured as if it were the largest finite number plus 1
/// ULP, which gives an error above 0.5. For all other exact values, the error of a stored infinity is infinite. NaN is
/// correct only for NaN; otherwise the error is infinite. If `at` and the exact value are zero, only zero is correct.
pub fn error_at<E: Element, X: Expected>(got: E, exact: X, at: f64) -> f64 {
    error_of::<E, X::Wide>(got.widen(), exact.wide(), at)
}

fn error_of<E: Element, R: Real>(wide: f64, exact: R, at: f64) -> f64 {
    if exact.is_nan() || wide.is_nan() {
        return if exact.is_nan() && wide.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if exact.abs() == R::from(f64::INFINITY) {
        return if R::from(wide) == exact { 0.0 } else { f64::INFINITY };
    }
    if at == 0.0 && exact == R::from(0.0) {
        return if wide == 0.0 { 0.0 } else { f64::INFINITY };
    }
    if wide.is_infinite() {
        let outwards = if wide > 0.0 { exact } else { -exact };
        let (max, ulp) = (R::from(E::LIMITS.max), size::<E>(E::LIMITS.max));
        let beyond = ((outwards - max) / R::from(ulp)).to_f64();
        return match beyond {
            0.5.. => 0.0,
            _ if beyond > 0.0 => 1.0 - beyond,
            _ => f64::INFINITY,
        };
    }
    let size = R::from(size::<E>(at));
    ((R::from(wide) - exact) / size).to_f64().abs()
}

/// Returns the magnitude as f64, rounded down. A number just below a power of two must not round to that power, which
/// has a larger ULP.
pub fn toward_zero<X: Expected>(exact: X) -> f64 {
    let exact = exact.wide().abs();
    let near = exact.to_f64();
    if X::Wide::from(near) > exact { near.next_down() } else { near }
}

/// Returns the number of steps from one stored value to the other. Each step leads to the next value. The number is 0
/// for equal values, for zeros of different signs and for two NaN. Between NaN and a number it is `u64::MAX`.
///
/// ```
/// use evenkeel::testing::ulp;
/// use half::f16;
/// assert_eq!(ulp::distance(1.0f32, 1.0 + f32::EPSILON), 1);
/// assert_eq!(ulp::distance(f16::from_f32(-0.0), f16::from_bits(1)), 1);
/// ```
pub fn distance<E: Element>(a: E, b: E) -> u64 {
    match (a.widen().is_nan(), b.widen().is_nan()) {
        (true, true) => 0,
        (false, false) => a.place().abs_diff(b.place()),
        _ => u64::MAX,
    }
}
