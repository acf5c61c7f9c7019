//! The gradients of layer normalisation.

use super::layer_norm::LayerNorm;
use super::norm_backward::{self, check_room};
use super::same_lanes;
use crate::element::Element;
use crate::error::Result;
use crate::floats::FloatsMut;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

const OP: &str = "layer_norm_backward";

/// What [`layer_norm_backward`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerNormGradients<E> {
    /// Of `x`.
    pub dx: Vec<E>,
    /// Of the weight, if there is one.
    pub dweight: Option<Vec<E>>,
    /// Of the bias, if there is one.
    pub dbias: Option<Vec<E>>,
}

/// The gradients of [`layer_norm`](crate::layer_norm()): what reaches `x`, weight and bias of `dy`, the gradient of its
/// result.
///
/// Nothing is kept from the forward pass: the rows' moments are computed again.
///
/// # Formula
/// ```text
/// dx_i = r (h_i - mean(h) - n_i mean(h n)),   h = dy weight,   n = (x - mean(x)) r,   r = 1 / sqrt(var + eps)
/// dweight_i = sum over rows of dy_i n_i,   dbias_i = sum over rows of dy_i
/// ```
///
/// # Shapes
/// `x` and `dy` are `[rows, cols]`, weight, dweight and dbias `[cols]`; dx has as many elements as `x`, without gaps.
/// The bias decides nothing but whether there is a dbias.
///
/// # Special values
/// | row | dx | dweight, dbias |
/// |---|---|---|
/// | a NaN or an infinity in x | NaN in this row only | NaN, nothing |
/// | a NaN or an infinity in dy | NaN in this row only | not finite in its column only |
/// | all equal with eps = 0 | zeros, as its normalised values are | adds nothing, adds dy |
/// | a spread far below the values, such as 1e6 .. 1e6+3 | right: the mean is two f64, and the variance is about it | right |
/// | values whose squares overflow or vanish in their type | right: all is f64, scaled for f64 rows | right |
/// | no rows, no columns | nothing | zeros, nothing |
///
/// # Accuracy
/// dx: f32: 0.501 ULP, f16, bf16: 0.51 ULP, of the largest of r |h_i|, r mean|h|, r |n_i| mean|h n| and the result, which
/// may cancel to less, for up to 65,536 columns. f64: 120 ULP of the largest of these, r |n_i| mean|h| and r mean|h n|, for
/// up to 16,384 columns, and 6 more for each 16,384 beyond; at most 8 were measured on rows that were not made for it. The ULP
/// of a term beyond the type is counted as if the type had more exponents: where such terms cancel, dx may be infinite
/// although the exact value is not.
///
/// dweight and dbias: the same of the sum of |dy_i n_i| or |dy_i|. Where f64 does not hold the sum of a row of x, n_i counts
/// as at least 2^-8 in f32, and 2^-24 in f16 and bf16, as in [`layer_norm`](crate::layer_norm()); in f64 it always counts as
/// at least 1. A dweight of f64 for narrower rows of up to 16,384 columns is within 2^-38 of this sum. Where f64 does not
/// hold the sum of a row of x, it is within 2^-35 (f32) and 2^-20 (f16, bf16).
///
/// Sums follow [rule O](crate::math::sum), those of dweight and dbias over the rows in order: the same bits on any number of
/// threads. `docs/accuracy/norms.md` derives this.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for a dy, weight, bias, dweight or dbias that does not fit,
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for eps that is negative or not finite,
/// [`Error::Backend`](crate::Error::Backend).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{LayerNorm, Rows, layer_norm_backward};
/// // E[x^2] - E[x]^2 in f32 makes the variance of these 0 or negative.
/// let (x, dy) = ([40000.0f32, 40001.0, 40002.0, 40003.0], [1.0f32, 0.0, 0.0, 0.0]);
/// let options = LayerNorm::default().bias(&[0.0f32; 4]).eps(0.0);
/// let gradients = layer_norm_backward(Rows::new(&x, 1, 4)?, Rows::new(&dy, 1, 4)?, &options)?;
/// assert_eq!(gradients.dx, [0.26832816, -0.3577709, -0.08944272, 0.17888544]);
/// assert_eq!(gradients.dbias, Some(vec![1.0, 0.0, 0.0, 0.0]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn layer_norm_backward<E: Element>(
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    options: &LayerNorm<'_>,
) -> Result<LayerNormGradients<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    options.resolve(OP, cols)?;
    let mut dweight = options.weight.map(|_| vec![E::ZERO; cols]);
    let mut dbias = options.bias.map(|_| vec![E::ZERO; cols]);
    let rooms = [&mut dweight, &mut dbias].map(|room| room.as_mut().map(FloatsMut::from));
    let dx = new_vec(OP, rows * cols, |dx| {
        let [dweight, dbias] = rooms;
        layer_norm_backward_into(x, dy, RowsMut::new(dx, rows, cols)?, dweight, dbias, options)
    })?;
    Ok(LayerNormGradients { dx, dweight, dbias })
}

/// [`layer_norm_backward`] into `dx`, which has the shape of `x`, and into `dweight` and `dbias` of any float types
/// where there are any; returns the memory of `dx`. What the others held is overwritten.
pub fn layer_norm_backward_into<'a, E: Element>(
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'a, E>,
    dweight: Option<FloatsMut<'_>>,
    dbias: Option<FloatsMut<'_>>,
    options: &LayerNorm<'_>,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    same_lanes(OP, "dx", &dx.geometry, &x.geometry)?;
    let rooms = [("dweight", dweight), ("dbias", dbias)];
    check_room(OP, &rooms, x.cols())?;
    norm_backward::into(OP, [x, dy], dx, rooms, options.resolve(OP, x.cols())?.into())
}

/// [`layer_norm_backward`] in place: `dy` becomes dx.
pub fn layer_norm_backward_in_place<E: Element>(
    x: Rows<'_, E>,
    dy: RowsMut<'_, E>,
    dweight: Option<FloatsMut<'_>>,
    dbias: Option<FloatsMut<'_>>,
    options: &LayerNorm<'_>,
) -> Result<()> {
    same_lanes(OP, "dy", &dy.geometry, &x.geometry)?;
    let rooms = [("dweight", dweight), ("dbias", dbias)];
    check_room(OP, &rooms, x.cols())?;
    norm_backward::in_place(OP, x, dy, rooms, options.resolve(OP, x.cols())?.into())
}
