//! The gradient of softmax.

use super::same_lanes;
use super::softmax::{Softmax, settle};
use crate::cpu::softmax_backward::{Softmax as Formula, SoftmaxBackward};
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "softmax_backward";

/// The gradient of [`softmax`](crate::softmax()): what `dy`, the gradient of its result, is for the scores.
///
/// # Formula
/// ```text
/// dx_i = scale c_i y_i (dy_i - sum_j y_j dy_j),   y = softmax(x),   c_i = 1 - tanh^2(scale x_i / softcap)
/// ```
/// with c_i = 1 without a softcap. Softmax is computed anew from the scores, under the same options; nothing of the
/// forward call has to be kept but them.
///
/// # Shapes
/// `x` and `dy` are of one shape, as in [`softmax`](crate::softmax()); the result has as many elements, without gaps.
///
/// # Special values
/// | row | dx |
/// |---|---|
/// | masked, or a score of -inf | 0 there, exactly; dy there is not read |
/// | all of it so | 0 under every policy but that of an error |
/// | a NaN in x or dy, +inf in x, an infinity in dy | NaN in this row only, but where it is masked |
/// | one element | 0 |
/// | no columns | nothing |
///
/// # Accuracy
/// In ULP of the largest of dx_i and scale c_i y_i max |dy|, where y_i counts as no less than the smallest normal
/// number (for f16 and bf16, of f32). f32: 5.3, derived for every row in `docs/accuracy/softmax.md`. On rows whose errors are
/// unrelated, such as random ones, 2 were measured and are asserted by tests. f16, bf16: 0.51. f64: 4, for gradients of logits
/// and slopes c that are not subnormal; a softcap has errors of its own, 4 for the slope c and 3 of the logit.
/// Against the logits as rounded to f64. The largest finite gradients overflow nowhere but in a result that is beyond
/// the type.
///
/// # Errors
/// As [`softmax`](crate::softmax()), and [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless the shapes are
/// the same.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Mask, Rows, Softmax, softmax_backward};
/// // The second key is padding, and what came back for it is broken.
/// let (x, dy) = ([1.0f32, f32::NAN, 1.0], [3e38, f32::NAN, -3e38]);
/// let mask = Mask::lengths(&[1]);
/// let keep = Mask::keep(&[true, false, true], &[3]);
/// let (x, dy) = (Rows::new(&x, 1, 3)?, Rows::new(&dy, 1, 3)?);
/// assert_eq!(softmax_backward(x, dy, &Softmax::default().mask(&keep))?, [1.5e38, 0.0, -1.5e38]);
/// assert_eq!(softmax_backward(x, dy, &Softmax::default().mask(&mask))?, [0.0; 3]); // one key is no choice
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

/// [`softmax_backward`] into `dx`, which has the shape of `x`; returns the memory of `dx`.
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
    let (written, met) = E::softmax_backward(dy, dx, SoftmaxBackward { scores, x, formula: Formula })?;
    settle(OP, met)?;
    Ok(written)
}

/// [`softmax_backward`] in place: overwrites `dy` with the gradient of the scores.
pub fn softmax_backward_in_place<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<()> {
    let (x, dy) = (x.into(), dy.into());
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let met = E::softmax_backward_in_place(OP, dy, SoftmaxBackward { scores, x, formula: Formula })?;
    settle(OP, met)
}
