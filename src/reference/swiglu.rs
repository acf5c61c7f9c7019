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
    // If silu(gate) underflows to 0, its product with an infinite `up` would be NaN. The exact product is infinite.
    if up.is_infinite() && x.is_finite() && x != 0.0 {
        return E::Exact::from(x.signum() * up);
    }
    silu(gate) * E::Exact::from(up)
}
