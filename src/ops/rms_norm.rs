//! Root-mean-square normalisation, alone or fused with the addition of a residual.

use super::softmax::finish_call;
use super::{is_finite, one_a_column, same_lanes, valid_eps};
use crate::cpu;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::rows::{Rows, RowsMut};
use crate::simd::{new_vec, new_vecs};

pub use crate::options::Rounding;

/// Options of [`rms_norm`], and of the other ops that include this normalisation.
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
    /// Factor of each column, by which the normalised values are multiplied. Any float type. All factors are 1 by
    /// default.
    pub weight: Option<Floats<'a>>,
    /// Number added to the weight: 1 for checkpoints that store weights centred on zero. Finite; 0 by default.
    pub weight_offset: f64,
    /// Number added to the mean square, in f64. Finite, not negative; 1e-6 by default.
    pub eps: f64,
    /// Points at which values are rounded to the type of the rows; by default, only when results are stored.
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

    /// Checks the options that can be checked without the view.
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

/// Applies root-mean-square normalisation to each row.
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
/// | an infinity | NaN at the infinity, 0 elsewhere |
/// | all zeros with eps = 0 | zeros |
/// | values whose squares overflow or underflow in their type | correct: squares are f64, and scaled if rows are f64 |
/// | no columns | empty |
///
/// # Accuracy
/// f32: 0.501 ULP. f16, bf16: 0.51 ULP. [`Rounding::BeforeWeight`] also rounds the normalised value before the weight
/// multiplies it, and the error of this rounding adds to these bounds.
///
/// f64: 11 ULP for up to 16,384 columns, and 0.5 ULP more for each further 16,384 columns. At most 4 ULP were measured
/// on rows that were not constructed to maximise the error. In a row of n columns with an element above 2^400, a result
/// may have a further error of `sqrt(n) * 2^-1075` times its weight, because a normalised value below 2^-1022 is
/// rounded to a multiple of 2^-1074 before the weight multiplies it. `docs/accuracy/norms.md` derives these bounds.
///
/// The squares are added by a [tiled sum](crate::math::sum), so the bits of a row depend neither on its batch nor on
/// the machine. Elements are multiplied by the reciprocal root and the weight in f64, with one exception. If all values
/// are within the range of f32, and the normalised value is not rounded before the weight multiplies it, f32 elements
/// are multiplied as float-float numbers, each the sum of two f32. f16 and bf16 elements are multiplied in f32.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a weight of another length; [`Error::InvalidArgument`] if eps is negative or not
/// finite, or `weight_offset` not finite; [`Error::Unavailable`] if the requested instruction set is unavailable.
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
/// // The squares of these values overflow f32.
/// let y = rms_norm(Rows::new(&[1e20f32, -1e20, 1e20, -1e20], 1, 4)?, &RmsNorm::default())?;
/// assert_eq!(y, [1.0, -1.0, 1.0, -1.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rms_norm<E: Element>(x: Rows<'_, E>, options: &RmsNorm<'_>) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(OP, rows * cols, |out| rms_norm_into(x, RowsMut::new(out, rows, cols)?, options))
}

/// Writes the result of [`rms_norm`] to `out`, which has the shape of `x`, and returns `out` as an initialised slice.
pub fn rms_norm_into<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    options: &RmsNorm<'_>,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let kernel = options.resolve(OP, x.cols())?;
    let (written, guards) = E::rms_norm(x.into(), out.into(), kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`rms_norm`].
pub fn rms_norm_in_place<E: Element>(x: RowsMut<'_, E>, options: &RmsNorm<'_>) -> Result<()> {
    let kernel = options.resolve(OP, x.cols())?;
    let guards = E::rms_norm_in_place(OP, x.into(), kernel)?;
    finish_call(OP, guards)
}

/// Computes the sum `x + residual` and the [`rms_norm`] of this sum. Returns the normalised sum and the sum, in this
/// order.
///
/// The sum is the residual of the next layer. It is rounded to the rows' type before it is normalised, so both results
/// have the same bits as an addition followed by [`rms_norm`].
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

/// Computes [`rms_norm_residual`], and writes the normalised sum to `out` and the sum to `residual_out`. Returns both
/// as initialised slices. Both outputs have the shape of `x`.
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
    let (written, guards) = E::rms_norm_residual([x, residual], [out, residual_out], kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Computes [`rms_norm_residual`] in place: `x` becomes the normalised sum, and `residual` becomes the sum.
pub fn rms_norm_residual_in_place<E: Element>(
    x: RowsMut<'_, E>,
    residual: RowsMut<'_, E>,
    options: &RmsNorm<'_>,
) -> Result<()> {
    same_lanes(OP, "residual", &residual.geometry, &x.geometry)?;
    let kernel = options.resolve(OP, x.cols())?;
    let guards = E::rms_norm_residual_in_place(OP, [x, residual], kernel)?;
    finish_call(OP, guards)
}
