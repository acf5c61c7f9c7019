//! The gradients of root-mean-square normalisation.

use super::norm_backward::{self, check_room};
use super::rms_norm::RmsNorm;
use super::same_lanes;
use crate::element::Element;
use crate::error::Result;
use crate::floats::FloatsMut;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

const OP: &str = "rms_norm_backward";

/// What [`rms_norm_backward`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RmsNormGradients<E> {
    /// Of `x`, which is also that of a residual that was added to it.
    pub dx: Vec<E>,
    /// Of the weight, if there is one.
    pub dweight: Option<Vec<E>>,
}

/// The gradients of [`rms_norm`](crate::rms_norm()): what reaches `x` and the weight of `dy`, the gradient of its
/// result.
///
/// Nothing is kept from the forward pass: the rows' squares are summed again.
///
/// # Formula
/// ```text
/// dx_i = r (h_i - n_i mean(h n)),   h = dy (weight + weight_offset),   n = x r,   r = 1 / sqrt(mean(x^2) + eps)
/// dweight_i = sum over rows of dy_i n_i
/// ```
/// [`Rounding::BeforeWeight`](crate::Rounding::BeforeWeight) rounds the n that dy multiplies in dweight; the gradient
/// goes through that rounding as if it were none, as torch's does.
///
/// Of [`rms_norm_residual`](crate::rms_norm_residual()), `x` is the sum that it returned. dx is the gradient of both of
/// its terms, once the gradient that reaches the sum itself is added by the caller.
///
/// # Shapes
/// `x` and `dy` are `[rows, cols]`, the weight and dweight `[cols]`; dx has as many elements as `x`, without gaps.
///
/// # Special values
/// | row | dx | dweight |
/// |---|---|---|
/// | a NaN or an infinity in x or dy | NaN in this row only | not finite where x or dy is not, NaN everywhere for a NaN in x |
/// | all zeros with eps = 0 | zeros, as its norm is | adds nothing |
/// | values whose squares overflow or vanish in their type | right: all is f64, scaled for f64 rows | right |
/// | no rows, no columns | nothing | zeros, nothing |
///
/// # Accuracy
/// dx: f32: 0.501 ULP, f16, bf16: 0.51 ULP, f64: 56 ULP, of the largest of r |h_i|, r |n_i| mean|h n| and the result,
/// which may cancel to less. That of f64 is for up to 16,384 columns, and 2.5 more for each 16,384 beyond; at most 8 were
/// measured on rows that were not made for it. dweight, in the type that it is stored in: the same of the sum of |dy_i n_i|.
/// In f64 an n_i, or an n_i mean(h n), below 2^-1022 is a multiple of 2^-1074. The ULP of a term beyond the type is counted
/// as if the type had more exponents: where such terms cancel, dx may be infinite although the exact value is not.
///
/// Sums follow [rule O](crate::math::sum), those of dweight over the rows in order: the same bits on any number of threads.
/// `docs/accuracy/norms.md` derives this.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for a dy, weight or dweight that does not fit,
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for eps that is negative or not finite,
/// [`Error::Backend`](crate::Error::Backend).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{RmsNorm, Rows, rms_norm_backward};
/// // The squares of these overflow f32.
/// let (x, dy) = ([1e20f32, -1e20, 1e20, -1e20], [1e20f32, 0.0, 0.0, 0.0]);
/// let options = RmsNorm::default().weight(&[1.0f32; 4]);
/// let gradients = rms_norm_backward(Rows::new(&x, 1, 4)?, Rows::new(&dy, 1, 4)?, &options)?;
/// assert_eq!(gradients.dx, [0.75, 0.25, -0.25, 0.25]);
/// assert_eq!(gradients.dweight, Some(vec![1e20, 0.0, 0.0, 0.0]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm_backward<E: Element>(
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    options: &RmsNorm<'_>,
) -> Result<RmsNormGradients<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    options.resolve(OP, cols)?;
    let mut dweight = options.weight.map(|_| vec![E::ZERO; cols]);
    let room = dweight.as_mut().map(FloatsMut::from);
    let dx =
        new_vec(OP, rows * cols, |dx| rms_norm_backward_into(x, dy, RowsMut::new(dx, rows, cols)?, room, options))?;
    Ok(RmsNormGradients { dx, dweight })
}

/// [`rms_norm_backward`] into `dx`, which has the shape of `x`, and into `dweight` of any float type where there is
/// one; returns the memory of `dx`. What `dweight` held is overwritten.
pub fn rms_norm_backward_into<'a, E: Element>(
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'a, E>,
    dweight: Option<FloatsMut<'_>>,
    options: &RmsNorm<'_>,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    same_lanes(OP, "dx", &dx.geometry, &x.geometry)?;
    let room = [("dweight", dweight)];
    check_room(OP, &room, x.cols())?;
    norm_backward::into(OP, [x, dy], dx, room, options.resolve(OP, x.cols())?.into())
}

/// [`rms_norm_backward`] in place: `dy` becomes dx.
///
/// ```
/// use evenkeel::{RmsNorm, Rows, RowsMut, rms_norm_backward_in_place};
/// let (x, mut dy) = ([2.0f32, 2.0], [1.0f32, -1.0]);
/// let mut dweight = [0.0f64; 2]; // wider than the rows
/// let options = RmsNorm::default().eps(0.0);
/// let (x, dx) = (Rows::new(&x, 1, 2)?, RowsMut::new(&mut dy, 1, 2)?);
/// rms_norm_backward_in_place(x, dx, Some((&mut dweight).into()), &options)?;
/// assert_eq!((dy, dweight), ([0.5, -0.5], [1.0, -1.0]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm_backward_in_place<E: Element>(
    x: Rows<'_, E>,
    dy: RowsMut<'_, E>,
    dweight: Option<FloatsMut<'_>>,
    options: &RmsNorm<'_>,
) -> Result<()> {
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    let room = [("dweight", dweight)];
    check_room(OP, &room, x.cols())?;
    norm_backward::in_place(OP, x, dy, room, options.resolve(OP, x.cols())?.into())
}
