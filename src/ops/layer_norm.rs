//! Layer normalisation.

use super::softmax::settle;
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
    /// Multiplies the normalised values, one a column, of any float type; ones by default.
    pub weight: Option<Floats<'a>>,
    /// Added after the weight, one a column, of any float type; zeros by default.
    pub bias: Option<Floats<'a>>,
    /// Added to the variance, in f64. Finite, not negative; 1e-5 by default.
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

    /// Checks what does not depend on the view.
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

/// Layer normalisation of each row.
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
/// | a spread far below the values, such as 1e6 .. 1e6+3 | right: the mean is two f64, and the variance is about it |
/// | values whose squares overflow or vanish in their type | right: squares are f64, scaled for f64 rows |
/// | no columns | nothing |
///
/// # Accuracy
/// f32: 0.501 ULP of the largest of the weighted value, the bias and the result. f16, bf16: 0.51 ULP of the same. f64: 32
/// ULP of the largest of these three and the weight, for up to 16,384 columns, and 1.5 more for each 16,384 beyond; at most
/// 4 were measured on rows that were not made for it.
///
/// This holds for every f32, f16 and bf16 row of up to 2^21 columns whose sum f64 holds: all elements are multiples of some
/// q, and their magnitudes add up to at most 2^53 q, as in near-constant rows. In other rows elements next to the mean may be
/// as far off as if their weighted value was 2^-8 of the weight in f32, or 2^-24 in f16 and bf16; from 2^18 columns on, that
/// part grows as the columns do. `docs/accuracy/norms.md` derives this.
///
/// Sums follow [rule O](crate::math::sum): the same bits wherever and however a row is computed. The mean is a sum of two
/// f64. The variance of f32, f16 and bf16 is (sum(x^2) - sum(x) mean) / cols in f64 where 1024 of it are at least mean^2,
/// and the mean of (x - mean)^2 elsewhere. Rows of f16 and bf16 are written in f32 where f32 has room, in f64 elsewhere, as
/// rows of f32 always are.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for a weight or bias of another length,
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for eps that is negative or not finite,
/// [`Error::Backend`](crate::Error::Backend).
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
/// // E[x^2] - E[x]^2 in f32 makes the variance of these 0 or negative.
/// let y = layer_norm(Rows::new(&[40000.0f32, 40001.0, 40002.0, 40003.0], 1, 4)?, &LayerNorm::default())?;
/// assert_eq!(y, [-1.3416355, -0.4472118, 0.4472118, 1.3416355]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn layer_norm<E: Element>(x: Rows<'_, E>, options: &LayerNorm<'_>) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(OP, rows * cols, |out| layer_norm_into(x, RowsMut::new(out, rows, cols)?, options))
}

/// [`layer_norm`] into `out`, which has the shape of `x`; returns the memory of `out`.
pub fn layer_norm_into<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    options: &LayerNorm<'_>,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let kernel = options.resolve(OP, x.cols())?;
    let (written, met) = E::layer_norm(x.into(), out.into(), kernel)?;
    settle(OP, met)?;
    Ok(written)
}

/// [`layer_norm`] in place.
pub fn layer_norm_in_place<E: Element>(x: RowsMut<'_, E>, options: &LayerNorm<'_>) -> Result<()> {
    let kernel = options.resolve(OP, x.cols())?;
    let met = E::layer_norm_in_place(OP, x.into(), kernel)?;
    settle(OP, met)
}
