//! Units in the last place of a storage type.

use evenkeel::Element;
use evenkeel::reference::Real;

/// The distance between neighbouring values of the type where the magnitude lies: at zero and among the subnormal
/// numbers the smallest of them, at and beyond the largest value the distance below it.
pub fn size<E: Element>(magnitude: f64) -> f64 {
    let limits = E::LIMITS;
    let exponent_bits = magnitude.abs().clamp(limits.min_normal, limits.max).to_bits() >> 52 << 52;
    f64::from_bits(exponent_bits) * limits.epsilon
}

/// How far a stored value is from the exact one, in ULPs at the exact one.
pub fn error<E: Element, R: Real>(got: E, exact: R) -> f64 {
    error_at(got, exact, toward_zero(exact))
}

/// How far a stored value is from the exact one, in ULPs at the magnitude `at`.
///
/// Infinity, when stored, is what lies one step beyond the largest finite value: right for whatever rounds to it and
/// for all that lies further out. NaN is right for NaN only, and is infinitely far from all else. Where `at` is zero,
/// nothing but zero is right.
pub fn error_at<E: Element, R: Real>(got: E, exact: R, at: f64) -> f64 {
    let wide = got.widen();
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
        let half_ulp = R::from(size::<E>(E::LIMITS.max) / 2.0);
        return if outwards >= R::from(E::LIMITS.max) + half_ulp { 0.0 } else { f64::INFINITY };
    }
    let size = R::from(size::<E>(at));
    ((R::from(wide) - exact) / size).to_f64().abs()
}

/// The magnitude as f64, rounded down: a number just below a power of two keeps the smaller ULP.
pub fn toward_zero<R: Real>(exact: R) -> f64 {
    let near = exact.abs().to_f64();
    if R::from(near) > exact.abs() { near.next_down() } else { near }
}
