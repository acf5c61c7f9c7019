//! The gradient of softmax, computed from the result of softmax.

use super::softmax::finish_call;
use super::{is_finite, same_lanes};
use crate::cpu::output_backward::{Forward, OutputBackward};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

/// Options of [`softmax_backward_from_output`] and
/// [`log_softmax_backward_from_output`](crate::log_softmax_backward_from_output()).
///
/// A softcap is not offered, because its derivative depends on the scores. A mask is not needed: a position is masked
/// if the result of the forward call is 0, or -inf for log_softmax.
///
/// ```
/// use evenkeel::SoftmaxFromOutput;
/// let attention = SoftmaxFromOutput::default().scale(0.125);
/// # let _ = attention;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SoftmaxFromOutput {
    /// Factor of the scores in the forward call, [`Softmax::scale`](crate::Softmax::scale). Finite; 1 by default.
    pub scale: f64,
}

impl Default for SoftmaxFromOutput {
    fn default() -> Self {
        SoftmaxFromOutput { scale: 1.0 }
    }
}

impl SoftmaxFromOutput {
    /// Sets [`SoftmaxFromOutput::scale`].
    pub fn scale(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// Checks the options and the length of the lanes, and returns the kernel.
    pub(crate) fn kernel<'y, E: Element>(
        &self,
        op: &'static str,
        y: Lanes<'y, E>,
        of: Forward,
    ) -> Result<OutputBackward<'y, E>> {
        if y.geometry.len() > MAX_TERMS {
            return Err(Error::invalid(op, "columns", y.geometry.len(), format!("at most {MAX_TERMS}")));
        }
        if !is_finite(self.scale) {
            return Err(Error::invalid(op, "scale", self.scale, "finite"));
        }
        Ok(OutputBackward { y, scale: self.scale, of })
    }
}

const OP: &str = "softmax_backward_from_output";

/// Computes the gradient of [`softmax`](crate::softmax()) with respect to the scores, given the result `y`. `dy` is the
/// gradient of `y`.
///
/// # Formula
/// ```text
/// dx_i = scale y_i (dy_i - sum_j y_j dy_j)
/// ```
/// [`softmax_backward`](crate::softmax_backward()) starts from the scores, takes two to four times as long, and
/// supports a softcap. This function is for forward passes that keep their result. A mask is not needed: y is 0 at
/// masked positions.
///
/// # Shapes
/// `y` and `dy` have the same shape, as in [`softmax`](crate::softmax()). The result has as many elements, without
/// gaps.
///
/// # Special values
/// | row | dx |
/// |---|---|
/// | y is 0, because the position is masked or the probability is too small for the type | exactly 0 at this position, whose dy is not read |
/// | all y are 0 | 0; the row counts as fully masked |
/// | a NaN or an infinity in y, or in a dy that is read | NaN in this row only, and 0 where y is 0 |
/// | one element with y = 1 | 0 |
/// | no columns | empty |
///
/// # Accuracy
/// The bounds treat the given y as exact, and hold for y from 0 to 1. They are in ULP of the larger of dx_i and scale
/// y_i max |dy|. If y_i is below the smallest normal number of the type (for f16 and bf16, of f32), the ULP is taken
/// with this number in place of y_i.
///
/// The bounds are 0.54 in f32, 0.51 in f16 and bf16, and 3.7 in f64. `docs/accuracy/softmax.md` derives the bounds for
/// every row. The bound of f64 requires that max |dy| and scale max |dy| are not subnormal.
///
/// The rounding of y in the forward call is not part of these bounds. This rounding moves dx_i by at most 3 u scale y_i
/// max |dy|, where u is 2^-8 for bf16, 2^-11 for f16, 2^-24 for f32 and 2^-53 for f64. This change is at most 3 ULP of
/// the larger of dx_i and scale y_i max |dy|. For a subnormal y_i, these limits do not hold: its rounding error may be
/// half of the smallest positive number of the type.
///
/// Intermediate values do not overflow for y from -1 to 1, even for the largest finite gradients. A result is infinite
/// only if it is outside the range of the type; in f64, also if it is within 4 ULP of the largest number.
///
/// # Errors
/// [`Error::ShapeMismatch`] unless the shapes are equal; [`Error::InvalidArgument`] if the scale is not finite or a
/// lane has more than 2^21 elements; [`Error::Unavailable`] if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, SoftmaxFromOutput, softmax, softmax_backward_from_output};
/// // The second key is masked, so the NaN in its gradient has no effect.
/// let (x, dy) = ([1.0f32, f32::NEG_INFINITY, 1.0], [3e38, f32::NAN, -3e38]);
/// let y = softmax(Rows::new(&x, 1, 3)?, &Softmax::default())?;
/// let options = SoftmaxFromOutput::default();
/// let dx = softmax_backward_from_output(Rows::new(&y, 1, 3)?, Rows::new(&dy, 1, 3)?, &options)?;
/// assert_eq!(dx, [1.5e38, 0.0, -1.5e38]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn softmax_backward_from_output<'x, 'y, E: Element>(
    y: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    options: &SoftmaxFromOutput,
) -> Result<Vec<E>> {
    let (y, dy) = (y.into(), dy.into());
    new_vec(OP, y.geometry.shape.elements(), |dx| {
        let dx = LanesMut::shaped(dx, y.geometry.shape.dims(), y.geometry.axis as isize)?;
        softmax_backward_from_output_into(y, dy, dx, options)
    })
}

/// Writes the result of [`softmax_backward_from_output`] to `dx`, which has the shape of `y`, and returns `dx` as an
/// initialised slice.
pub fn softmax_backward_from_output_into<'x, 'y, 'a, E: Element>(
    y: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    dx: impl Into<LanesMut<'a, E>>,
    options: &SoftmaxFromOutput,
) -> Result<&'a mut [E]> {
    let (y, dy, dx) = (y.into(), dy.into(), dx.into());
    same_lanes(OP, "dy", &dy.geometry, &y.geometry)?;
    same_lanes(OP, "dx", &dx.geometry, &y.geometry)?;
    let (written, guards) = E::output_backward(dy, dx, options.kernel(OP, y, Forward::Softmax)?)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Computes [`softmax_backward_from_output`] in place: overwrites `dy` with the gradient of the scores.
pub fn softmax_backward_from_output_in_place<'x, 'a, E: Element>(
    y: impl Into<Lanes<'x, E>>,
    dy: impl Into<LanesMut<'a, E>>,
    options: &SoftmaxFromOutput,
) -> Result<()> {
    let (y, dy) = (y.into(), dy.into());
    same_lanes(OP, "dy", &dy.geometry, &y.geometry)?;
    let guards = E::output_backward_in_place(OP, dy, options.kernel(OP, y, Forward::Softmax)?)?;
    finish_call(OP, guards)
}
