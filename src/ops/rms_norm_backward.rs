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

/// Gradients that [`rms_norm_backward`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RmsNormGradients<E> {
    /// Gradient of `x`. A residual that was added to form `x` has the same gradient.
    pub dx: Vec<E>,
    /// Gradient of the weight, if the options have a weight.
    pub dweight: Option<Vec<E>>,
}

/// Computes the gradients of [`rms_norm`](crate::rms_norm()) with respect to `x` and the weight. `dy` is the gradient
/// of the result.
///
/// The forward pass has to keep only `x`, because the squares of the rows are summed again.
///
/// # Formula
/// ```text
/// dx_i = r (h_i - n_i mean(h n)),   h = dy (weight + weight_offset),   n = x r,   r = 1 / sqrt(mean(x^2) + eps)
/// dweight_i = sum over rows of dy_i n_i
/// ```
/// With [`Rounding::BeforeWeight`](crate::Rounding::BeforeWeight), dweight uses the rounded n. For dx, the derivative
/// of this rounding counts as 1, as in torch.
///
/// For the gradients of [`rms_norm_residual`](crate::rms_norm_residual()), pass as `x` the sum that `rms_norm_residual`
/// returned. Then add to dx the gradient that the next layer returns for this sum. The total is the gradient of each of
/// the two summands.
///
/// # Shapes
/// `x` and `dy` are `[rows, cols]`, the weight and dweight `[cols]`; dx has as many elements as `x`, without gaps.
///
/// # Special values
/// | row | dx | dweight |
/// |---|---|---|
/// | a NaN or an infinity in x or dy | NaN in this row only | NaN or infinite in that column; all NaN if x has a NaN |
/// | all zeros with eps = 0 | zeros, like the normalised row | no contribution |
/// | values whose squares overflow or underflow | correct: computed in f64, and scaled if rows are f64 | correct |
/// | no rows | empty | zeros |
/// | no columns | empty | empty |
///
/// # Accuracy
/// Bounds of dx are in ULP of the largest of r |h_i|, r |n_i| mean|h n| and the result, because these terms may cancel.
/// They are 0.501 in f32, 0.51 in f16 and bf16, and 56 in f64. The bound of f64 is for up to 16,384 columns and grows
/// by 2.5 for each further 16,384 columns. In f64 at most 8 ULP were measured on rows that were not constructed to
/// maximise the error.
///
/// dweight has the same bounds, but in ULP of the sum of |dy_i n_i|. The ULP is in dweight's type.
///
/// In f64, values of n_i and of n_i mean(h n) below 2^-1022 are rounded to multiples of 2^-1074. If a term exceeds the
/// range of the type, its ULP counts as if the exponent range were unlimited. Where terms out of range cancel, dx may
/// be infinite although the exact value is finite.
///
/// Sums over columns are [tiled sums](crate::math::sum). dweight is a tiled sum over the rows, in their order. The bits
/// are the same for every thread count. `docs/accuracy/norms.md` derives the bounds.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if dy, the weight or dweight has the wrong shape;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if eps is negative or not finite, or `weight_offset` not
/// finite; [`Error::Unavailable`](crate::Error::Unavailable) if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{RmsNorm, Rows, rms_norm_backward};
/// // The squares of these values overflow f32.
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

/// Computes [`rms_norm_backward`], and writes the gradients to `dx`, and to `dweight` if it is given. Returns `dx` as
/// an initialised slice.
///
/// `dx` has the shape of `x`. `dweight` has one element per column, of any float type, and is overwritten.
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

/// Computes [`rms_norm_backward`] in place: `dy` becomes dx.
///
/// ```
/// use evenkeel::{RmsNorm, Rows, RowsMut, rms_norm_backward_in_place};
/// let (x, mut dy) = ([2.0f32, 2.0], [1.0f32, -1.0]);
/// let mut dweight = [0.0f64; 2]; // a wider type than the rows
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
