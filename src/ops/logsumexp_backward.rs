//! Gradient of the logarithm of a sum of exponentials.

use super::same_lanes;
use super::softmax::{Softmax, finish_call};
use crate::cpu::logsumexp_backward::LogSumExpBackward;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "logsumexp_backward";

/// Computes the gradient of [`logsumexp`](crate::logsumexp()) with respect to the scores `x`. `dy` holds the gradient
/// of each lane's result.
///
/// # Formula
/// ```text
/// dx_i = scale c_i y_i dy,   y = softmax(x),   c_i = 1 - tanh^2(scale x_i / softcap)
/// ```
/// The softmax is computed from the scores under the same options. Without a softcap, c_i = 1.
///
/// # Shapes
/// `x` has the shapes that [`logsumexp`](crate::logsumexp()) expects, and `dy` has one element for each lane. The
/// result has the shape of `x`, without gaps.
///
/// # Special values
/// | row | dx |
/// |---|---|
/// | a masked score, or a score of -inf | exactly 0 at this position |
/// | fully masked, or all scores -inf | 0, or an error under the policy Error; dy is not read |
/// | a NaN or +inf in x, or a dy that is not finite | NaN in this row only, except for 0 at masked positions |
/// | one element | `scale * c_i * dy` |
/// | no columns | empty |
///
/// # Accuracy
/// Bounds are in ULP of `dx_i = scale * c_i * y_i * dy`. If y_i is below the smallest normal number of the type (for
/// f16 and bf16, of f32), the ULP is taken with this number in place of y_i.
///
/// The bounds are 3.7 in f32, 5 in f64, and 0.51 in f16 and bf16. `docs/accuracy/softmax.md` derives the bounds of f32
/// and f64 for every row. On rows whose rounding errors are independent, such as random rows, tests assert 2 ULP (f64:
/// 4). The bound of f64 requires that the gradients of the logits and the derivatives c_i are not subnormal. In f64 a
/// softcap adds up to 4 ULP for c_i and 3 ULP for the logit.
///
/// # Errors
/// The errors of [`logsumexp`](crate::logsumexp()), and [`Error::ShapeMismatch`] unless `dy` has one element for each
/// lane.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, logsumexp_backward};
/// let dx = logsumexp_backward(Rows::new(&[1000.0f32, 1000.0], 1, 2)?, &[3.0], &Softmax::default())?;
/// assert_eq!(dx, [1.5, 1.5]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn logsumexp_backward<'x, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: &[E],
    options: &Softmax<'_>,
) -> Result<Vec<E>> {
    let x = x.into();
    let (dims, axis) = (x.geometry.shape, x.geometry.axis as isize);
    new_vec(OP, dims.elements(), |dx| logsumexp_backward_into(x, dy, LanesMut::shaped(dx, dims.dims(), axis)?, options))
}

/// Writes the result of [`logsumexp_backward`] to `dx`, which has the shape of `x`, and returns `dx` as an initialised
/// slice.
pub fn logsumexp_backward_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    dy: &[E],
    dx: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, dx) = (x.into(), dx.into());
    one_a_lane(dy, x.lanes())?;
    same_lanes(OP, "dx", &dx.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let (written, guards) = E::logsumexp_backward(x, dx, LogSumExpBackward { scores, dy })?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Computes [`logsumexp_backward`] in place: overwrites the scores `x` with their gradients.
pub fn logsumexp_backward_in_place<'a, E: Element>(
    x: impl Into<LanesMut<'a, E>>,
    dy: &[E],
    options: &Softmax<'_>,
) -> Result<()> {
    let x = x.into();
    one_a_lane(dy, x.lanes())?;
    let scores = options.resolve(OP, &x.geometry)?;
    let guards = E::logsumexp_backward_in_place(OP, x, LogSumExpBackward { scores, dy })?;
    finish_call(OP, guards)
}

fn one_a_lane<E>(dy: &[E], lanes: usize) -> Result<()> {
    if dy.len() == lanes {
        return Ok(());
    }
    Err(Error::shape(OP, "dy", format!("{} elements", dy.len()), format!("one for each of {lanes} lanes")))
}
