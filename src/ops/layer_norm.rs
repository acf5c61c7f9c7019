//! Layer normalisation.

use super::softmax::finish_call;
use super::{one_a_column, same_lanes, valid_eps};
use crate::cpu;
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

/// Options of [`layer_norm`].
///
/// ```
/// use evenkeel::LayerNorm;
/// let (weight, bias) = ([1.0f32, 1.0], [0.0f32, 0.5]);
/// let bert = LayerNorm::default().weight(&weight).bias(&bias).eps(1e-12);
/// # let _ = bert;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LayerNorm<'a> {
    /// Factors that the normalised values are multiplied by, one for each column, of any float type; ones by default.
    pub weight: Option<Floats<'a>>,
    /// Numbers added after the multiplication by the weight, one for each column, of any float type; zeros by default.
    pub bias: Option<Floats<'a>>,
    /// Number added to the variance, in f64. Finite, not negative; 1e-5 by default.
    pub eps: f64,
}

impl Default for LayerNorm<'_> {
    fn default() -> Self {
        LayerNorm { weight: None, bias: None, eps: 1e-5 }
    }
}

impl<'a> LayerNorm<'a> {
    /// Sets [`LayerNorm::weight`].
    pub fn weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { weight: Some(weight.into()), ..self }
    }

    /// Sets [`LayerNorm::bias`].
    pub fn bias(self, bias: impl Into<Floats<'a>>) -> Self {
        Self { bias: Some(bias.into()), ..self }
    }

    /// Sets [`LayerNorm::eps`].
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Checks the options that can be checked without the view.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        valid_eps(op, self.eps)
    }

    pub(crate) fn resolve(&self, op: &'static str, cols: usize) -> Result<cpu::layer_norm::LayerNorm<'a>> {
        one_a_column(op, "weight", self.weight, cols)?;
        one_a_column(op, "bias", self.bias, cols)?;
        self.check(op)?;
        let LayerNorm { weight, bias, eps } = *self;
        Ok(cpu::layer_norm::LayerNorm { weight, bias, eps })
    }
}

const OP: &str = "layer_norm";

/// Applies layer normalisation to each row.
///
/// # Formula
/// ```text
/// y_i = (x_i - mean) / sqrt(var + eps) * weight_i + bias_i,   var = mean((x - mean)^2)
/// ```
///
/// # Shapes
/// `x` is `[rows, cols]`, weight and bias `[cols]`; the result has as many elements as `x`, without gaps.
///
/// # Special values
/// | row | y |
/// |---|---|
/// | a NaN or an infinity | NaN in this row only |
/// | all equal | the bias |
/// | values that differ little, such as 1e6 to 1e6+3 | correct: the subtracted mean is stored as two f64 |
/// | values whose squares overflow or underflow in their type | correct: squared in f64; f64 values are scaled first |
/// | no columns | empty |
///
/// # Accuracy
/// f32: 0.501 ULP of the largest of the weighted value, the bias and the result. f16, bf16: 0.51 ULP of the largest of
/// these three.
///
/// f64: 32 ULP of the largest of these three and the weight, for up to 16,384 columns, and 1.5 ULP more for each
/// further 16,384 columns. At most 4 ULP were measured on rows that were not constructed to maximise the error.
///
/// The bounds hold for every f32, f16 and bf16 row of up to 2^21 columns whose sum is exact in f64. The sum of a row is
/// exact if all elements are multiples of some power of two q and their magnitudes add up to at most 2^53 q, as in
/// near-constant rows. For all other rows, the bounds hold if a weighted value below a minimum is replaced by this
/// minimum, which is 2^-8 times the weight in f32, and 2^-24 times the weight in f16 and bf16. The minimum matters only
/// for elements close to the mean. From 2^18 columns on, it grows in proportion to the number of columns.
/// `docs/accuracy/norms.md` derives the bounds.
///
/// Sums are [tiled sums](crate::math::sum), so the bits of a row do not depend on its position, the thread count or the
/// instruction set. The mean is stored as a sum of two f64. For f32, f16 and bf16 the variance is (sum(x^2) - sum(x)
/// mean) / cols in f64, unless mean^2 exceeds 1024 times this variance. In that case, and always for f64, the variance
/// is the mean of (x - mean)^2. The results of f16 and bf16 rows are computed in f32 if all values are within the range
/// of f32, and otherwise in f64. The results of f32 rows are always computed in f64.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for a weight or bias of another length;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if eps is negative or not finite;
/// [`Error::Unavailable`](crate::Error::Unavailable) if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Source
/// Ba, Kiros and Hinton, "Layer normalization", 2016.
///
/// # Example
/// ```
/// use evenkeel::{LayerNorm, Rows, layer_norm};
/// // In f32, E[x^2] - E[x]^2 of these values would be 0 or negative.
/// let y = layer_norm(Rows::new(&[40000.0f32, 40001.0, 40002.0, 40003.0], 1, 4)?, &LayerNorm::default())?;
/// assert_eq!(y, [-1.3416355, -0.4472118, 0.4472118, 1.3416355]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn layer_norm<E: Element>(x: Rows<'_, E>, options: &LayerNorm<'_>) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(OP, rows * cols, |out| layer_norm_into(x, RowsMut::new(out, rows, cols)?, options))
}

/// Writes the result of [`layer_norm`] to `out`, which has the shape of `x`, and returns `out` as an initialised slice.
pub fn layer_norm_into<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    options: &LayerNorm<'_>,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let kernel = options.resolve(OP, x.cols())?;
    let (written, guards) = E::layer_norm(x.into(), out.into(), kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`layer_norm`].
pub fn layer_norm_in_place<E: Element>(x: RowsMut<'_, E>, options: &LayerNorm<'_>) -> Result<()> {
    let kernel = options.resolve(OP, x.cols())?;
    let guards = E::layer_norm_in_place(OP, x.into(), kernel)?;
    finish_call(OP, guards)
}
