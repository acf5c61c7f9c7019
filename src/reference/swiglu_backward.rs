//! Gradients of SwiGLU.

use super::{silu_derivative, swiglu};
use crate::element::Element;

/// Returns the unrounded results of [`swiglu_backward`](crate::swiglu_backward()) for one pair: dgate and dup.
///
/// ```
/// assert_eq!(evenkeel::reference::swiglu_backward(0.0f32, 3.0, 2.0), [3.0, 0.0]);
/// ```
pub fn swiglu_backward<E: Element>(gate: E, up: E, dy: E) -> [E::Exact; 2] {
    let of = |value: E| E::Exact::from(value.widen());
    [silu_derivative(gate) * of(up) * of(dy), swiglu(gate, dy)]
}
