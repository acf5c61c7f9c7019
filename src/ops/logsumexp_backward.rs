//! The gradient of the logarithm of a sum of exponentials.

use super::same_lanes;
use super::softmax::{Softmax, settle};
use crate::cpu::logsumexp_backward::LogSumExpBackward;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "logsumexp_backward";

/// The gradient of [`logsumexp`](crate::logsumexp()): what `dy`, one gradient for each lane, is for the scores.
///
/// # Formula
/// ```text
/// dx_i = scale c_i y_i dy,   y = softmax(x),   c_i = 1 - tanh^2(scale x_i / softcap)
/// ```
/// with c_i = 1 without a softcap.
///
/// # Shapes
/// `x` as in [`logsumexp`](crate::logsumexp()), `dy` one element for each lane; the result has the shape of `x`,
/// without gaps.
///
/// # Special values
/// | row | dx |
/// |---|---|
/// | masked, or a score of -inf | 0 there, exactly |
/// | all of it so | 0 under every policy but that of an error; dy is not read |
/// | a NaN or +inf in x, dy not finite | NaN in this row only, but where it is masked |
/// | one element | scale c dy |
/// | no columns | nothing |
///
/// # Accuracy
/// In ULP of dx_i, where y_i counts as no less than the smallest normal number (for f16 and bf16, of f32). f32: 3.7, f64: 5,
/// derived for every row in `docs/accuracy/softmax.md`. On rows whose errors are unrelated, such as random ones, 2 (f64: 4) were
/// measured and are asserted by tests. f16, bf16: 0.51. The bound in f64 is for gradients of logits and derivatives c that are
/// not subnormal; a softcap adds up to 4 ULP of c and 3 of the logit.
///
/// # Errors
/// As [`logsumexp`](crate::logsumexp()), and [`Error::ShapeMismatch`] unless `dy` has an element for each lane.
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

/// [`logsumexp_backward`] into `dx`, which has the shape of `x`; returns the memory of `dx`.
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
    let (written, met) = E::logsumexp_backward(x, dx, LogSumExpBackward { scores, dy })?;
    settle(OP, met)?;
    Ok(written)
}

/// [`logsumexp_backward`] in place: overwrites `x`, the scores, with their gradients.
pub fn logsumexp_backward_in_place<'a, E: Element>(
    x: impl Into<LanesMut<'a, E>>,
    dy: &[E],
    options: &Softmax<'_>,
) -> Result<()> {
    let x = x.into();
    one_a_lane(dy, x.lanes())?;
    let scores = options.resolve(OP, &x.geometry)?;
    let met = E::logsumexp_backward_in_place(OP, x, LogSumExpBackward { scores, dy })?;
    settle(OP, met)
}

fn one_a_lane<E>(dy: &[E], lanes: usize) -> Result<()> {
    if dy.len() == lanes {
        return Ok(());
    }
    Err(Error::shape(OP, "dy", format!("{} elements", dy.len()), format!("one for each of {lanes} lanes")))
}
