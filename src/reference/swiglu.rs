//! SwiGLU: the gated linear unit with SiLU.

use super::silu;
use crate::element::Element;

/// Returns silu(gate) * up, the unrounded result of [`swiglu`](crate::swiglu()).
///
/// ```
/// assert_eq!(evenkeel::reference::swiglu(0.0f32, 3.0), 0.0);
/// ```
pub fn swiglu<E: Element>(gate: E, up: E) -> E::Exact {
    let (x, up) = (gate.widen(), up.widen());
    // silu(gate) may underflow to 0, which would give NaN. Its exact value is not 0, so the exact product is infinite.
    if up.is_infinite() && x.is_finite() && x != 0.0 {
        return E::Exact::from(x.signum() * up);
    }
    silu(gate) * E::Exact::from(up)
}
