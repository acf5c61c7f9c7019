//! The gradient of log-softmax, computed from the result of log-softmax.

use super::same_lanes;
use super::softmax::finish_call;
use super::softmax_backward_from_output::SoftmaxFromOutput;
use crate::cpu::output_backward::Forward;
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "log_softmax_backward_from_output";

/// Computes the gradient of [`log_softmax`](crate::log_softmax()) with respect to the scores, given the result `y`.
/// `dy` is the gradient of `y`.
///
/// # Formula
/// ```text
/// dx_i = scale (dy_i - e^(y_i) sum_j dy_j)
/// ```
/// Masked positions, where y is -inf, are left out of the sum. [`log_softmax_backward`](crate::log_softmax_backward())
/// starts from the scores and supports a softcap. This function is for forward passes that keep their result.
///
/// # Shapes
/// Shapes are as for [`softmax_backward_from_output`](crate::softmax_backward_from_output()).
///
/// # Special values
/// | row | dx |
/// |---|---|
/// | y is -inf: the position is masked, or the logarithm is outside the range of the type | exactly 0 at this position, whose dy is not read |
/// | all y are -inf | 0; the row counts as fully masked |
/// | a NaN or +inf in y, a NaN or an infinity in a dy that is read | NaN in this row only, and 0 where y is -inf |
/// | y above 0, which no log_softmax returns | counts as 0 |
/// | one element with y = 0 | 0 |
/// | no columns | empty |
///
/// # Accuracy
/// The bounds treat the given y as exact. They are in ULP of the largest of `dx_i`, `scale |dy_i|` and `scale e^(y_i)
/// sum_j |dy_j|`. If e^(y_i) is below the smallest normal number of the type (for f16 and bf16, of f32), the ULP is
/// taken with this number in place of e^(y_i).
///
/// The bounds are 2.4 in f32, 0.51 in f16 and bf16, and 4 in f64. `docs/accuracy/softmax.md` derives the bounds for
/// every row. The bound of f64 requires that max |dy| and scale max |dy| are not subnormal.
///
/// The rounding of y in the forward call is not part of these bounds. This rounding moves dx_i by about u |y_i| e^(y_i)
/// scale |sum_j dy_j|, where u is 2^-8 for bf16, 2^-11 for f16, 2^-24 for f32 and 2^-53 for f64. This change is up to
/// |y_i| ULP of the largest of the three magnitudes above. Because |y| e^y is at most 0.37, the change of dx_i is also
/// at most 0.37 u scale |sum_j dy_j|. [`log_softmax_backward`](crate::log_softmax_backward()) does not have this error.
///
/// Intermediate values do not overflow, even for the largest finite gradients. A result is infinite only if the exact
/// value is outside the range of the type; in f64, also if it is within 4 ULP of the largest number.
///
/// # Errors
/// The errors of [`softmax_backward_from_output`](crate::softmax_backward_from_output()).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, SoftmaxFromOutput, log_softmax, log_softmax_backward_from_output};
/// // The sum of dy overflows f32, but the gradients of the scores do not.
/// let (x, dy) = ([0.0f32], [3e38]);
/// let y = log_softmax(Rows::new(&x, 1, 1)?, &Softmax::default())?;
/// let options = SoftmaxFromOutput::default();
/// let dx = log_softmax_backward_from_output(Rows::new(&y, 1, 1)?, Rows::new(&dy, 1, 1)?, &options)?;
/// assert_eq!(dx, [0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn log_softmax_backward_from_output<'x, 'y, E: Element>(
    y: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    options: &SoftmaxFromOutput,
) -> Result<Vec<E>> {
    let (y, dy) = (y.into(), dy.into());
    new_vec(OP, y.geometry.shape.elements(), |dx| {
        let dx = LanesMut::shaped(dx, y.geometry.shape.dims(), y.geometry.axis as isize)?;
        log_softmax_backward_from_output_into(y, dy, dx, options)
    })
}

/// Writes the result of [`log_softmax_backward_from_output`] to `dx`, which has the shape of `y`, and returns `dx` as
/// an initialised slice.
pub fn log_softmax_backward_from_output_into<'x, 'y, 'a, E: Element>(
    y: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    dx: impl Into<LanesMut<'a, E>>,
    options: &SoftmaxFromOutput,
) -> Result<&'a mut [E]> {
    let (y, dy, dx) = (y.into(), dy.into(), dx.into());
    same_lanes(OP, "dy", &dy.geometry, &y.geometry)?;
    same_lanes(OP, "dx", &dx.geometry, &y.geometry)?;
    let (written, guards) = E::output_backward(dy, dx, options.kernel(OP, y, Forward::LogSoftmax)?)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Computes [`log_softmax_backward_from_output`] in place: overwrites `dy` with the gradient of the scores.
pub fn log_softmax_backward_from_output_in_place<'x, 'a, E: Element>(
    y: impl Into<Lanes<'x, E>>,
    dy: impl Into<LanesMut<'a, E>>,
    options: &SoftmaxFromOutput,
) -> Result<()> {
    let (y, dy) = (y.into(), dy.into());
    same_lanes(OP, "dy", &dy.geometry, &y.geometry)?;
    let guards = E::output_backward_in_place(OP, dy, options.kernel(OP, y, Forward::LogSoftmax)?)?;
    finish_call(OP, guards)
}
