//! Gradient clipping by value.

use super::Real;

/// Returns the unrounded result of [`clip_grad_value`](crate::clip_grad_value()) for an element.
///
/// ```
/// use evenkeel::reference::clip_grad_value;
/// assert_eq!([-3.0, 0.25, f64::INFINITY].map(|g| clip_grad_value(g, 0.5)), [-0.5, 0.25, 0.5]);
/// ```
pub fn clip_grad_value<R: Real>(g: R, clip_value: f64) -> R {
    let limit = R::from(clip_value);
    if g > limit {
        limit
    } else if g < -limit {
        -limit
    } else {
        g
    }
}
