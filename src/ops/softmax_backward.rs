//! The gradient of softmax.

use super::same_lanes;
use super::softmax::{Softmax, finish_call};
use crate::cpu::softmax_backward::{Softmax as Formula, SoftmaxBackward};
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "softmax_backward";

/// Computes the gradient of [`softmax`](crate::softmax()) with respect to the scores `x`. `dy` is the gradient of the
/// result.
///
/// # Formula
/// ```text
/// dx_i = scale c_i y_i (dy_i - sum_j y_j dy_j),   y = softmax(x),   c_i = 1 - tanh^2(scale x_i / softcap)
/// ```
/// Without a softcap, c_i = 1. The softmax is recomputed from the scores under the same options, so only the scores
/// have to be kept from the forward call.
///
/// # Shapes
/// `x` and `dy` have the same shape, as in [`softmax`](crate::softmax()). The result has as many elements, without
/// gaps.
///
/// # Special values
/// | row | dx |
/// |---|---|
/// | masked, or a score of -inf | exactly 0 at this position, whose dy is not read |
/// | fully masked, or all scores -inf | 0, or an error under the policy Error |
/// | a NaN in x or dy, +inf in x, an infinity in dy | NaN in this row only, and 0 at its masked positions |
/// | one element | 0 |
/// | no columns | empty |
///
/// # Accuracy
/// Bounds are in ULP of the larger of `dx_i` and `scale * c_i * y_i * max_j |dy_j|`. If y_i is below the smallest
/// normal number of the type (for f16 and bf16, of f32), the ULP is taken with this number in place of y_i. The bounds
/// treat the logits, rounded to f64, as exact.
///
/// The bounds are 5.3 in f32, 8 in f64, and 0.51 in f16 and bf16. `docs/accuracy/softmax.md` derives the bounds of f32
/// and f64 for every row. On rows whose rounding errors are independent, such as random rows, tests assert 2 ULP (f64:
/// 4). The bound of f64 requires that neither a logit's gradient nor its c_i is subnormal. In f64 a softcap adds up to
/// 4 ULP for c_i and 3 ULP for the logit.
///
/// Intermediate values do not overflow, even for the largest finite gradients. A result is infinite only if it is
/// outside the range of the type.
///
/// # Errors
/// The errors of [`softmax`](crate::softmax()), and [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless the
/// shapes are equal.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Mask, Rows, Softmax, softmax_backward};
/// // The second key is padding, and both its score and its gradient are NaN.
/// let (x, dy) = ([1.0f32, f32::NAN, 1.0], [3e38, f32::NAN, -3e38]);
/// let mask = Mask::lengths(&[1]);
/// let keep = Mask::keep(&[true, false, true], &[3]);
/// let (x, dy) = (Rows::new(&x, 1, 3)?, Rows::new(&dy, 1, 3)?);
/// assert_eq!(softmax_backward(x, dy, &Softmax::default().mask(&keep))?, [1.5e38, 0.0, -1.5e38]);
/// assert_eq!(softmax_backward(x, dy, &Softmax::default().mask(&mask))?, [0.0; 3]); // softmax of one key is constant
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn softmax_backward<'x, 'y, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    options: &Softmax<'_>,
) -> Result<Vec<E>> {
    let (x, dy) = (x.into(), dy.into());
    new_vec(OP, x.geometry.shape.elements(), |dx| {
        softmax_backward_into(x, dy, LanesMut::shaped(dx, x.geometry.shape.dims(), x.geometry.axis as isize)?, options)
    })
}

/// Writes the result of [`softmax_backward`] to `dx`, which has the shape of `x`, and returns `dx` as an initialised
/// slice.
pub fn softmax_backward_into<'x, 'y, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<Lanes<'y, E>>,
    dx: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, dy, dx) = (x.into(), dy.into(), dx.into());
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    same_lanes(OP, "dx", &dx.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let (written, guards) = E::softmax_backward(dy, dx, SoftmaxBackward { scores, x, formula: Formula })?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Computes [`softmax_backward`] in place: overwrites `dy` with the gradient of the scores.
pub fn softmax_backward_in_place<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<()> {
    let (x, dy) = (x.into(), dy.into());
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let guards = E::softmax_backward_in_place(OP, dy, SoftmaxBackward { scores, x, formula: Formula })?;
    finish_call(OP, guards)
}
