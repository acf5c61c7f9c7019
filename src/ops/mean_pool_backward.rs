//! The gradient of mean pooling.

use super::mean_pool::MeanPool;
use super::softmax::finish_call;
use crate::cpu;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::rows::{Geometry, LanesMut};
use crate::simd::new_vec;

const OP: &str = "mean_pool_backward";

/// Computes dx, the gradient of [`mean_pool`](crate::mean_pool()) with respect to its input. dy is the gradient of the
/// result.
///
/// # Formula
/// ```text
/// dx[b, t, d] = dy[b, d] / n_b   for the n_b unmasked tokens t of sequence b, 0 for masked ones
/// ```
///
/// # Shapes
/// `dy` is `[batch, width]`, and `shape` is the shape of dx, `[batch, tokens, width]`. The input x is not needed.
///
/// # Special values
/// | input | dx |
/// |---|---|
/// | a masked token | 0, even if dy is NaN |
/// | NaN or an infinity in dy | the same value in the unmasked tokens |
/// | all tokens masked | 0, or an error under the policy Error |
///
/// # Accuracy
/// Correctly rounded in f64, f32, f16 and bf16.
///
/// # Errors
/// The errors of [`mean_pool`](crate::mean_pool()), and [`Error::ShapeMismatch`] if `dy` does not have `batch * width`
/// elements.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Mask, MeanPool, mean_pool_backward};
/// let mask = Mask::lengths(&[2]);
/// let dx = mean_pool_backward(&[1.0f32, 3.0], [1, 3, 2], &MeanPool::default().mask(&mask))?;
/// assert_eq!(dx, [0.5, 1.5, 0.5, 1.5, 0.0, 0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn mean_pool_backward<E: Element>(dy: &[E], shape: [usize; 3], options: &MeanPool<'_>) -> Result<Vec<E>> {
    let geometry = Geometry::shaped(&shape, 1)?;
    let kernel = check(dy, &geometry, options)?;
    new_vec(OP, geometry.shape.elements(), |dx| run(dy, LanesMut::shaped(dx, &shape, 1)?, kernel))
}

/// Writes the result of [`mean_pool_backward`] to `dx`, whose lanes run along the tokens, and returns `dx` as an
/// initialised slice.
pub fn mean_pool_backward_into<'a, E: Element>(
    dy: &[E],
    dx: LanesMut<'a, E>,
    options: &MeanPool<'_>,
) -> Result<&'a mut [E]> {
    let kernel = check(dy, &dx.geometry, options)?;
    run(dy, dx, kernel)
}

fn run<'a, E: Element>(dy: &[E], dx: LanesMut<'a, E>, kernel: cpu::mean_pool::MeanPool<'_>) -> Result<&'a mut [E]> {
    let (written, guards) = E::mean_pool_backward(dy, dx, kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Checks `dy` and the options against the shape of `dx`.
fn check<'a, E>(dy: &[E], dx: &Geometry, options: &MeanPool<'a>) -> Result<cpu::mean_pool::MeanPool<'a>> {
    if dy.len() != dx.lanes() {
        let expected = format!("batch * width = {}", dx.lanes());
        return Err(Error::shape(OP, "dy", format!("{} elements", dy.len()), expected));
    }
    options.resolve(OP, dx)
}
