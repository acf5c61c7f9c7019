//! Root-mean-square normalisation, alone and fused with a residual.

use super::softmax::settle;
use super::{is_finite, one_a_column, same_lanes, valid_eps};
use crate::cpu;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::rows::{Rows, RowsMut};
use crate::simd::{new_vec, new_vecs};

/// Where [`rms_norm`] rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Once, at the store: as torch, Gemma and gpt-oss do.
    #[default]
    Once,
    /// The normalised value is rounded to the rows' type before the weight multiplies it: as the Llama, Qwen and
    /// Mistral modules of Hugging Face transformers and vLLM do. Two roundings in f16 and bf16.
    BeforeWeight,
}

/// Options of [`rms_norm`] and its forms.
///
/// ```
/// use evenkeel::{RmsNorm, Rounding};
/// let weight = [0.1f32, -0.2];
/// let gemma = RmsNorm::default().weight(&weight).weight_offset(1.0);
/// let llama = RmsNorm::default().weight(&weight).eps(1e-5).rounding(Rounding::BeforeWeight);
/// # let _ = (gemma, llama);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RmsNorm<'a> {
    /// Multiplies the normalised values, one a column, of any float type; ones by default.
    pub weight: Option<Floats<'a>>,
    /// Added to the weight: 1 for checkpoints that store it around zero. 0 by default.
    pub weight_offset: f64,
    /// Added to the mean square, in f64. Finite, not negative; 1e-6 by default.
    pub eps: f64,
    /// Where the result is rounded; once by default.
    pub rounding: Rounding,
}

impl Default for RmsNorm<'_> {
    fn default() -> Self {
        RmsNorm { weight: None, weight_offset: 0.0, eps: 1e-6, rounding: Rounding::Once }
    }
}

impl<'a> RmsNorm<'a> {
    /// Sets [`RmsNorm::weight`].
    pub fn weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { weight: Some(weight.into()), ..self }
    }

    /// Sets [`RmsNorm::weight_offset`].
    pub fn weight_offset(self, offset: f64) -> Self {
        Self { weight_offset: offset, ..self }
    }

    /// Sets [`RmsNorm::eps`].
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Sets [`RmsNorm::rounding`].
    pub fn rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// Checks what does not depend on the view.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        valid_eps(op, self.eps)?;
        if !is_finite(self.weight_offset) {
            return Err(Error::invalid(op, "weight_offset", self.weight_offset, "finite"));
        }
        Ok(())
    }

    pub(crate) fn resolve(&self, op: &'static str, cols: usize) -> Result<cpu::rms_norm::RmsNorm<'a>> {
        one_a_column(op, "weight", self.weight, cols)?;
        self.check(op)?;
        let RmsNorm { weight, weight_offset, eps, rounding } = *self;
        Ok(cpu::rms_norm::RmsNorm { weight, weight_offset, eps, rounding })
    }
}

const OP: &str = "rms_norm";

/// Root-mean-square normalisation of each row.
///
/// # Formula
/// ```text
/// y_i = x_i / sqrt(mean(x^2) + eps) * (weight_i + weight_offset)
/// ```
///
/// # Shapes
/// `x` is `[rows, cols]`, the weight `[cols]`; the result has as many elements as `x`, without gaps.
///
/// # Special values
/// | row | y |
/// |---|---|
/// | a NaN | NaN in this row only |
/// | an infinity | NaN there, 0 elsewhere |
/// | all zeros with eps = 0 | zeros |
/// | values whose squares overflow or vanish in their type | right: squares are f64, scaled for f64 rows |
/// | no columns | nothing |
///
/// # Accuracy
/// f32: 0.501 ULP. f16, bf16: 0.51 ULP; rounded before the weight, that rounding and one more. f64: 11 ULP for up to 16,384
/// columns, and 0.5 more for each 16,384 beyond; at most 4 were measured on rows that were not made for it. Beside an
/// element above 2^400 a result may be off by sqrt(n) 2^-1075, times its weight. In f64 a
/// normalised value below 2^-1022 is a multiple of 2^-1074 before the weight multiplies it.
/// `docs/accuracy/norms.md` derives this.
///
/// Sums follow [rule O](crate::math::sum): the same bits wherever and however a row is computed. Rows are multiplied in
/// pairs of f32, or in f32 if they are f16 or bf16, where f32 has room and nothing is rounded before the weight; in f64
/// elsewhere.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a weight of another length, [`Error::InvalidArgument`] for eps that is negative or
/// not finite, [`Error::Backend`].
///
/// # Panics
/// Never.
///
/// # Source
/// Zhang and Sennrich, "Root mean square layer normalization", 2019.
///
/// # Example
/// ```
/// use evenkeel::{RmsNorm, Rows, rms_norm};
/// // The squares of these overflow f32.
/// let y = rms_norm(Rows::new(&[1e20f32, -1e20, 1e20, -1e20], 1, 4)?, &RmsNorm::default())?;
/// assert_eq!(y, [1.0, -1.0, 1.0, -1.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm<E: Element>(x: Rows<'_, E>, options: &RmsNorm<'_>) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(OP, rows * cols, |out| rms_norm_into(x, RowsMut::new(out, rows, cols)?, options))
}

/// [`rms_norm`] into `out`, which has the shape of `x`; returns the memory of `out`.
pub fn rms_norm_into<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    options: &RmsNorm<'_>,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let kernel = options.resolve(OP, x.cols())?;
    let (written, met) = E::rms_norm(x.into(), out.into(), kernel)?;
    settle(OP, met)?;
    Ok(written)
}

/// [`rms_norm`] in place.
pub fn rms_norm_in_place<E: Element>(x: RowsMut<'_, E>, options: &RmsNorm<'_>) -> Result<()> {
    let kernel = options.resolve(OP, x.cols())?;
    let met = E::rms_norm_in_place(OP, x.into(), kernel)?;
    settle(OP, met)
}

/// [`rms_norm`] of `x + residual`: the norm, and the sum for the next layer.
///
/// The sum is rounded to the rows' type and the norm is of what was rounded, so the bits are those of adding first and
/// normalising then.
///
/// ```
/// use evenkeel::{RmsNorm, Rows, rms_norm_residual};
/// let (x, residual) = ([1.0f32, 2.0], [2.0f32, 2.0]);
/// let (y, sum) = rms_norm_residual(Rows::new(&x, 1, 2)?, Rows::new(&residual, 1, 2)?, &RmsNorm::default())?;
/// assert_eq!(sum, [3.0, 4.0]);
/// # let _ = y;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm_residual<E: Element>(
    x: Rows<'_, E>,
    residual: Rows<'_, E>,
    options: &RmsNorm<'_>,
) -> Result<(Vec<E>, Vec<E>)> {
    let (rows, cols) = (x.rows(), x.cols());
    let [y, sum] = new_vecs(OP, [rows * cols; 2], |[out, residual_out]| {
        let outs = [RowsMut::new(out, rows, cols)?, RowsMut::new(residual_out, rows, cols)?];
        residual_into([x, residual], outs, options)
    })?;
    Ok((y, sum))
}

/// [`rms_norm_residual`] into `out` and `residual_out`, which have the shape of `x`; returns their memory.
pub fn rms_norm_residual_into<'a, E: Element>(
    x: Rows<'_, E>,
    residual: Rows<'_, E>,
    out: RowsMut<'a, E>,
    residual_out: RowsMut<'a, E>,
    options: &RmsNorm<'_>,
) -> Result<(&'a mut [E], &'a mut [E])> {
    let [y, sum] = residual_into([x, residual], [out, residual_out], options)?;
    Ok((y, sum))
}

fn residual_into<'a, E: Element>(
    [x, residual]: [Rows<'_, E>; 2],
    [out, residual_out]: [RowsMut<'a, E>; 2],
    options: &RmsNorm<'_>,
) -> Result<[&'a mut [E]; 2]> {
    same_lanes(OP, "residual", &residual.geometry, &x.geometry)?;
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    same_lanes(OP, "residual_out", &residual_out.geometry, &x.geometry)?;
    let kernel = options.resolve(OP, x.cols())?;
    let (written, met) = E::rms_norm_residual([x, residual], [out, residual_out], kernel)?;
    settle(OP, met)?;
    Ok(written)
}

/// [`rms_norm_residual`] in place: `x` becomes the norm and `residual` the sum.
pub fn rms_norm_residual_in_place<E: Element>(
    x: RowsMut<'_, E>,
    residual: RowsMut<'_, E>,
    options: &RmsNorm<'_>,
) -> Result<()> {
    same_lanes(OP, "residual", &residual.geometry, &x.geometry)?;
    let kernel = options.resolve(OP, x.cols())?;
    let met = E::rms_norm_residual_in_place(OP, [x, residual], kernel)?;
    settle(OP, met)
}
