//! Gradients of layer normalisation.

use super::layer_norm::LayerNorm;
use super::norm_backward::{self, check_room};
use super::same_lanes;
use crate::element::Element;
use crate::error::Result;
use crate::floats::FloatsMut;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

const OP: &str = "layer_norm_backward";

/// Gradients that [`layer_norm_backward`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerNormGradients<E> {
    /// Gradient of `x`.
    pub dx: Vec<E>,
    /// Gradient of the weight, if the options have a weight.
    pub dweight: Option<Vec<E>>,
    /// Gradient of the bias, if the options have a bias.
    pub dbias: Option<Vec<E>>,
}

/// Computes the gradients of [`layer_norm`](crate::layer_norm()) with respect to `x`, weight and bias. `dy` is the
/// gradient of the result.
///
/// The forward pass has to keep only `x`, because the mean and variance of the rows are computed again.
///
/// # Formula
/// ```text
/// dx_i = r (h_i - mean(h) - n_i mean(h n)),   h = dy weight,   n = (x - mean(x)) r,   r = 1 / sqrt(var + eps)
/// dweight_i = sum over rows of dy_i n_i,   dbias_i = sum over rows of dy_i
/// ```
///
/// # Shapes
/// `x` and `dy` are `[rows, cols]`, and weight, dweight and dbias `[cols]`. dx has as many elements as `x`, without
/// gaps. dbias is computed if the options have a bias. The values of the bias are not used.
///
/// # Special values
/// | row | dx | dweight, dbias |
/// |---|---|---|
/// | a NaN or an infinity in x | NaN in this row only | dweight is NaN in all columns; dbias is not affected |
/// | a NaN or an infinity in dy | NaN in this row only | NaN or infinite, in the column of that dy only |
/// | all equal with eps = 0 | zeros, like the normalised values | adds 0 to dweight, and dy to dbias |
/// | values that differ little, such as 1e6 to 1e6+3 | correct: the mean is stored as two f64 | correct |
/// | values whose squares overflow or underflow | correct: squared in f64; f64 values are scaled first | correct |
/// | no rows | empty | zeros |
/// | no columns | empty | empty |
///
/// # Accuracy
/// Bounds of dx are in ULP of the largest term T, because terms may cancel. In f32, f16 and bf16, T is the largest of
/// `r |h_i|`, `r mean|h|`, `r |n_i| mean|h n|` and the result. For up to 65,536 columns, the error is at most 0.501 ULP
/// of T in f32, and 0.51 in f16 and bf16.
///
/// In f64, T may also be one of two further terms, `r |n_i| mean|h|` and `r mean|h n|`. The bound is 120 ULP of T for
/// up to 16,384 columns, and 6 ULP more for each further 16,384 columns. At most 8 ULP were measured on rows that were
/// not constructed to maximise the error. If a term exceeds the range of the type, its ULP counts as if the exponent
/// range were unlimited. Where terms out of range cancel, dx may be infinite although the exact value is finite.
///
/// The bounds of dx also hold for dweight and dbias, but in ULP of other numbers: of W for dweight, and of the sum of
/// |dy_i| over the rows for dbias. W is the sum of |dy_i n_i| over the rows, except that a minimum replaces each |n_i|
/// below it. In f64 the minimum is 1. In the other types, only rows of x whose sum is not exact in f64 have a minimum:
/// 2^-8 in f32, and 2^-24 in f16 and bf16, as in [`layer_norm`](crate::layer_norm()).
///
/// If dweight is f64 and x is of another type, smaller bounds hold for up to 16,384 columns. The error of dweight is at
/// most 2^-38 W if the sum of every row of x is exact in f64. Otherwise it is at most 2^-35 W for f32, and 2^-20 W for
/// f16 and bf16.
///
/// All sums are [tiled sums](crate::math::sum). For dweight and dbias, the rows are added in order. The bits are the
/// same for every thread count. `docs/accuracy/norms.md` derives the bounds.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if dy, weight, bias, dweight or dbias has the wrong shape;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if eps is negative or not finite;
/// [`Error::Unavailable`](crate::Error::Unavailable) if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{LayerNorm, Rows, layer_norm_backward};
/// // In f32, E[x^2] - E[x]^2 of these values would be 0 or negative.
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

/// Computes [`layer_norm_backward`], and writes the gradients to `dx`, and to `dweight` and `dbias` if they are given.
/// Returns `dx` as an initialised slice.
///
/// `dx` has the shape of `x`. `dweight` and `dbias` have one element per column, of any float type, and are
/// overwritten.
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

/// Computes [`layer_norm_backward`] in place: overwrites `dy` with dx.
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
