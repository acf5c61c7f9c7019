//! Division with a guarded divisor and a finite result.

use crate::element::Element;

/// Returns the unrounded result of [`safe_div`](crate::safe_div()): `x / d`, clamped to the type's finite range. If
/// |`d`| is below `eps`, `d` is first replaced by `eps` with the sign of `d`.
///
/// ```
/// assert_eq!(evenkeel::reference::safe_div(1.0f32, -0.0, 0.25), -4.0);
/// ```
pub fn safe_div<E: Element>(x: E, d: E, eps: f64) -> E::Exact {
    let (x, d) = (x.widen(), d.widen());
    if x == 0.0 && !d.is_nan() {
        return E::Exact::from(0.0);
    }
    let d = if d.abs() < eps { eps.copysign(d) } else { d };
    let (quotient, largest) = (E::Exact::from(x) / E::Exact::from(d), E::Exact::from(E::LIMITS.max));
    if quotient > largest {
        largest
    } else if quotient < -largest {
        -largest
    } else {
        quotient
    }
}
