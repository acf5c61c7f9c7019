//! Root-mean-square normalisation of rows followed by a linear layer.

use super::rms_norm::RmsNorm;
use super::softmax::finish_call;
use crate::cpu;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

/// Options of [`rms_norm_linear`].
///
/// ```
/// use evenkeel::{RmsNorm, RmsNormLinear};
/// let weight = [0.5f32, 2.0];
/// let qkv = RmsNormLinear::default().norm(RmsNorm::default().weight(&weight)).bias(&[0.0f32, 0.5, 1.0]);
/// # let _ = qkv;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RmsNormLinear<'a> {
    /// Options of the norm, as for [`rms_norm`](crate::rms_norm()).
    pub norm: RmsNorm<'a>,
    /// Numbers added to the results, one for each row of the matrix, of any float type; zeros by default.
    pub bias: Option<Floats<'a>>,
    /// Whether the normalised row is rounded to the type of `x` before it is multiplied by the matrix. If true, the
    /// result has the same bits as [`rms_norm`](crate::rms_norm()) followed by a linear layer that adds its products in
    /// the same order. By default the normalised row stays in f64.
    pub rounded: bool,
}

impl<'a> RmsNormLinear<'a> {
    /// Sets [`RmsNormLinear::norm`].
    pub fn norm(self, norm: RmsNorm<'a>) -> Self {
        Self { norm, ..self }
    }

    /// Sets [`RmsNormLinear::bias`].
    pub fn bias(self, bias: impl Into<Floats<'a>>) -> Self {
        Self { bias: Some(bias.into()), ..self }
    }

    /// Sets [`RmsNormLinear::rounded`].
    pub fn rounded(self, rounded: bool) -> Self {
        Self { rounded, ..self }
    }

    fn resolve<'c, E: Element>(
        &self,
        x: &Rows<'_, E>,
        matrix: Rows<'c, E>,
    ) -> Result<cpu::rms_norm_linear::RmsNormLinear<'c, E>>
    where
        'a: 'c,
    {
        let norm = self.norm.resolve(OP, x.cols())?;
        if matrix.cols() != x.cols() {
            let got = format!("{} columns", matrix.cols());
            return Err(Error::shape(OP, "matrix", got, format!("{} columns, like x", x.cols())));
        }
        if let Some(bias) = self.bias.filter(|bias| bias.len() != matrix.rows()) {
            let expected = format!("one for each of the matrix's {} rows", matrix.rows());
            return Err(Error::shape(OP, "bias", format!("{} elements", bias.len()), expected));
        }
        Ok(cpu::rms_norm_linear::RmsNormLinear { norm, rounded: self.rounded, matrix, bias: self.bias })
    }
}

const OP: &str = "rms_norm_linear";

/// Applies [`rms_norm`](crate::rms_norm()) to each row and multiplies the result by the rows of a matrix.
///
/// Transformers apply these two ops to compute queries, keys and values, and at the start of the feed-forward layer.
/// The normalised rows are not written to memory, and each row of the matrix is read once for up to 64 rows of `x`.
///
/// # Formula
/// ```text
/// n_i = x_i / sqrt(mean(x^2) + eps) * (weight_i + weight_offset)
/// y_o = sum_i n_i matrix_oi + bias_o
/// ```
///
/// # Shapes
/// `x` is `[rows, cols]`, the weight `[cols]`, the bias `[results]`, and the matrix `[results, cols]`, as linear layers
/// store it. The result is `[rows, results]`, without gaps.
///
/// # Special values
/// | row | y |
/// |---|---|
/// | a NaN or an infinity | NaN in this row only |
/// | all zeros | the bias |
/// | products beyond the range of f32 that cancel | correct: products are f64, and scaled if the matrix is f64 |
/// | a NaN or an infinity in row o of the matrix | NaN or an infinity in result o of every row |
/// | no columns | the bias |
///
/// # Accuracy
/// Bounds are in ULP of the sum of the magnitudes of the products and the bias. f32, f16 and bf16: 0.501 ULP, which is
/// one rounding. f64: 30 ULP for up to 16,384 columns, and 1.5 ULP more for each further 16,384 columns. The options
/// can request further roundings: before the weight multiplies the row, and before the matrix multiplies it. The error
/// of each such rounding adds to these bounds. In f64 a normalised value below 2^-1022 is rounded to a multiple of
/// 2^-1074. `docs/accuracy/norms.md` derives these bounds.
///
/// The products are added in f64 by fused multiply-adds, in the order of a [tiled sum](crate::math::sum). The bits are
/// the same in any batch, for every thread count and every instruction set.
///
/// # Speed
/// Adding products in f64 in a fixed order takes longer than adding them in f32 in the fastest order. The table has
/// measured times, divided by the times of candle's separate ops:
///
/// | rows x columns | f32 | f16 | bf16 |
/// |---|---|---|---|
/// | 1 x 4,096, with 4,096 results | 1.5 | 3.0 | 0.25: candle has no fast product for this case |
/// | 128 x 1,024 | 4.4 | 3.0 | 4.7 |
///
/// # Errors
/// The errors of [`rms_norm`](crate::rms_norm()); [`Error::ShapeMismatch`] for a matrix with another number of columns
/// or a bias of another length.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{RmsNorm, RmsNormLinear, Rows, rms_norm_linear};
/// let (x, matrix) = ([3e20f32, -3e20], [1.0f32, 1.0, 1.0, -1.0, 3e38, 3e38]);
/// let options = RmsNormLinear::default().norm(RmsNorm::default().eps(0.0)).bias(&[0.0f32, 0.5, 1.0]);
/// let y = rms_norm_linear(Rows::new(&x, 1, 2)?, Rows::new(&matrix, 3, 2)?, &options)?;
/// assert_eq!(y, [0.0, 2.5, 1.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm_linear<E: Element>(x: Rows<'_, E>, matrix: Rows<'_, E>, options: &RmsNormLinear<'_>) -> Result<Vec<E>> {
    let (rows, results) = (x.rows(), matrix.rows());
    let call = options.resolve(&x, matrix)?;
    let elements = rows.checked_mul(results).ok_or_else(|| {
        Error::shape(OP, "result", format!("{rows} x {results} elements"), "a count of elements below 2^64")
    })?;
    new_vec(OP, elements, |out| run(x, RowsMut::new(out, rows, results)?, call))
}

/// Writes the result of [`rms_norm_linear`] to `out`, which is `[rows, results]`, and returns `out` as an initialised
/// slice.
pub fn rms_norm_linear_into<'a, E: Element>(
    x: Rows<'_, E>,
    matrix: Rows<'_, E>,
    out: RowsMut<'a, E>,
    options: &RmsNormLinear<'_>,
) -> Result<&'a mut [E]> {
    let call = options.resolve(&x, matrix)?;
    if (out.rows(), out.cols()) != (x.rows(), matrix.rows()) {
        let expected = format!("{} rows of {} results", x.rows(), matrix.rows());
        return Err(Error::shape(OP, "out", format!("shape {:?}", out.geometry.shape), expected));
    }
    run(x, out, call)
}

fn run<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    call: cpu::rms_norm_linear::RmsNormLinear<'_, E>,
) -> Result<&'a mut [E]> {
    let (written, guards) = E::rms_norm_linear(x, out, call)?;
    finish_call(OP, guards)?;
    Ok(written)
}
