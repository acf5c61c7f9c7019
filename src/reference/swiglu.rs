//! The gated linear unit of silu.

use super::silu;
use crate::element::Element;

/// silu(gate) * up of [`swiglu`](crate::swiglu()), unrounded.
///
/// ```
/// assert_eq!(evenkeel::reference::swiglu(0.0f32, 3.0), 0.0);
/// ```
pub fn swiglu<E: Element>(gate: E, up: E) -> E::Exact {
    silu(gate) * E::Exact::from(up.widen())
}
