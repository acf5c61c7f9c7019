//! The gradient of the logarithm of softmax.

use super::same_lanes;
use super::softmax::{Softmax, settle};
use crate::cpu::log_softmax_backward::{LogSoftmax as Formula, LogSoftmaxBackward};
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "log_softmax_backward";

/// The gradient of [`log_softmax`](crate::log_softmax()): what `dy`, the gradient of its result, is for the scores.
///
/// # Formula
/// ```text
/// dx_i = scale c_i (dy_i - y_i sum_j dy_j),   y = softmax(x),   c_i = 1 - tanh^2(scale x_i / softcap)
/// ```
/// with c_i = 1 without a softcap, and no terms of masked j: their results are -inf whatever the scores are. Softmax
/// is computed anew from the scores, under the same options.
///
/// # Shapes
/// As [`softmax_backward`](crate::softmax_backward()).
///
/// # Special values
/// As [`softmax_backward`](crate::softmax_backward()).
///
/// # Accuracy
/// In ULP of the largest of dx_i, scale c_i |dy_i| and scale c_i y_i sum |dy|, where y_i counts as no less than the
/// smallest normal number (for f16 and bf16, of f32). f32: 3.7, f64: 6, derived for every row in `docs/accuracy/softmax.md`.
/// On rows whose errors are unrelated, such as random ones, 2 (f64: 4) were measured and are asserted by tests. f16, bf16: 0.51.
/// The bound in f64 is for gradients of logits and derivatives c that are not subnormal; a softcap adds up to 4 ULP of c and 3
/// of the logit. Against the logits as rounded to f64. The largest finite gradients overflow nowhere but in a result that is beyond
/// the type.
///
/// # Errors
/// As [`softmax_backward`](crate::softmax_backward()).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, log_softmax_backward};
/// // The sum of these is beyond f32, the gradients of the scores are not.
/// let (x, dy) = ([0.0f32; 4], [3e38, 3e38, 0.0, 0.0]);
/// let dx = log_softmax_backward(Rows::new(&x, 1, 4)?, Rows::new(&dy, 1, 4)?, &Softmax::default())?;
/// assert_eq!(dx, [1.5e38, 1.5e38, -1.5e38, -1.5e38]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn log_softmax_backward<'x, 'y, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    options: &Softmax<'_>,
) -> Result<Vec<E>> {
    let (x, dy) = (x.into(), dy.into());
    let (dims, axis) = (x.geometry.shape, x.geometry.axis as isize);
    new_vec(OP, dims.elements(), |dx| {
        log_softmax_backward_into(x, dy, LanesMut::shaped(dx, dims.dims(), axis)?, options)
    })
}

/// [`log_softmax_backward`] into `dx`, which has the shape of `x`; returns the memory of `dx`.
pub fn log_softmax_backward_into<'x, 'y, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    dx: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, dy, dx) = (x.into(), dy.into(), dx.into());
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    same_lanes(OP, "dx", &dx.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let (written, met) = E::log_softmax_backward(dy, dx, LogSoftmaxBackward { scores, x, formula: Formula })?;
    settle(OP, met)?;
    Ok(written)
}

/// [`log_softmax_backward`] in place: overwrites `dy` with the gradient of the scores.
pub fn log_softmax_backward_in_place<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<()> {
    let (x, dy) = (x.into(), dy.into());
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let met = E::log_softmax_backward_in_place(OP, dy, LogSoftmaxBackward { scores, x, formula: Formula })?;
    settle(OP, met)
}
