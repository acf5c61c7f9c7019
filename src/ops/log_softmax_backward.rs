//! Gradient of the logarithm of softmax.

use super::same_lanes;
use super::softmax::{Softmax, finish_call};
use crate::cpu::log_softmax_backward::{LogSoftmax as Formula, LogSoftmaxBackward};
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "log_softmax_backward";

/// Computes the gradient of [`log_softmax`](crate::log_softmax()) with respect to the scores `x`. `dy` is the gradient
/// of the result.
///
/// # Formula
/// ```text
/// dx_i = scale c_i (dy_i - y_i sum_j dy_j),   y = softmax(x),   c_i = 1 - tanh^2(scale x_i / softcap)
/// ```
/// Without a softcap, c_i = 1. Masked positions are left out of the sum, because the result at a masked position is
/// -inf for every score. The softmax is recomputed from the scores under the same options.
///
/// # Shapes
/// Shapes are as for [`softmax_backward`](crate::softmax_backward()).
///
/// # Special values
/// Special values are as for [`softmax_backward`](crate::softmax_backward()).
///
/// # Accuracy
/// Bounds are in ULP of the largest of `dx_i`, `scale * c_i * |dy_i|` and `scale * c_i * y_i * sum_j |dy_j|`. If y_i is
/// below the smallest normal number of the type (for f16 and bf16, of f32), the ULP is taken with this number in place
/// of y_i. The bounds do not include the rounding of the logits to f64.
///
/// The bounds are 3.7 in f32, 6 in f64, and 0.51 in f16 and bf16. `docs/accuracy/softmax.md` derives the bounds of f32
/// and f64 for every row. On rows whose rounding errors are independent, such as random rows, tests assert 2 ULP (f64:
/// 4). The bound of f64 requires that the gradients of the logits and the derivatives c_i are not subnormal. In f64 a
/// softcap adds up to 4 ULP for c_i and 3 ULP for the logit.
///
/// Intermediate values do not overflow, even for the largest finite gradients. A result is infinite only if it is
/// outside the range of the type.
///
/// # Errors
/// The errors of [`softmax_backward`](crate::softmax_backward()).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, log_softmax_backward};
/// // The sum of dy overflows f32, but the gradients of the scores do not.
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

/// Writes the result of [`log_softmax_backward`] to `dx`, which has the shape of `x`, and returns `dx` as an
/// initialised slice.
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
    let (written, guards) = E::log_softmax_backward(dy, dx, LogSoftmaxBackward { scores, x, formula: Formula })?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Computes [`log_softmax_backward`] in place: overwrites `dy` with the gradient of the scores.
pub fn log_softmax_backward_in_place<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<()> {
    let (x, dy) = (x.into(), dy.into());
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let guards = E::log_softmax_backward_in_place(OP, dy, LogSoftmaxBackward { scores, x, formula: Formula })?;
    finish_call(OP, guards)
}
