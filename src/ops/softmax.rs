//! Softmax with masks, and the options shared by the softmax family.

use super::{is_finite, same_lanes};
use crate::cpu::lanes::GuardCounts;
use crate::cpu::scores::LogitTransform;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Mask};
use crate::math::sum::MAX_TERMS;
use crate::report;
use crate::rows::{Geometry, Lanes, LanesMut};
use crate::simd::{in_default, new_vec};

/// Options of [`softmax`], [`log_softmax`](crate::log_softmax) and [`logsumexp`](crate::logsumexp).
///
/// A score becomes a logit in three steps: scale, softcap, bias of the mask. The steps are computed in f64, or in pairs
/// of f32 (float-float numbers) where this cannot change a result. Scores of -inf, and positions excluded by the mask's
/// flags, lengths, causality or window, are masked before these steps.
///
/// ```
/// use evenkeel::{FullyMasked, Mask, Softmax};
/// let mask = Mask::causal();
/// let attention = Softmax::default().scale(0.125).softcap(50.0).mask(&mask).fully_masked(FullyMasked::Error);
/// # let _ = attention;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Softmax<'a> {
    /// Mask of the scores; nothing is masked by default.
    pub mask: Option<&'a Mask<'a>>,
    /// Factor of the scores, such as 1/sqrt(d) in attention. Finite; 1 by default.
    pub scale: f64,
    /// Cap of the scaled scores: each score becomes `cap * tanh(score / cap)`, as in Gemma 2. Finite and above zero;
    /// not set by default.
    pub softcap: Option<f64>,
    /// Result for a fully masked row; zeros by default.
    pub fully_masked: FullyMasked,
}

impl Default for Softmax<'_> {
    fn default() -> Self {
        Softmax { mask: None, scale: 1.0, softcap: None, fully_masked: FullyMasked::Zeros }
    }
}

impl<'a> Softmax<'a> {
    /// Sets [`Softmax::mask`].
    pub fn mask(self, mask: &'a Mask<'a>) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Sets [`Softmax::scale`].
    pub fn scale(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// Sets [`Softmax::softcap`].
    pub fn softcap(self, softcap: f64) -> Self {
        Self { softcap: Some(softcap), ..self }
    }

    /// Sets [`Softmax::fully_masked`].
    pub fn fully_masked(self, policy: FullyMasked) -> Self {
        Self { fully_masked: policy, ..self }
    }

    /// Checks the options against the shape of the scores, and resolves the mask.
    pub(crate) fn resolve(&self, op: &'static str, geometry: &Geometry) -> Result<LogitTransform<'a>> {
        let mask = self.mask.filter(|mask| !mask.is_none()).map(|mask| mask.resolve(op, geometry)).transpose()?;
        if geometry.len() > MAX_TERMS {
            return Err(Error::invalid(op, "columns", geometry.len(), format!("at most {MAX_TERMS}")));
        }
        self.check(op)?;
        Ok(LogitTransform { mask, scale: self.scale, softcap: self.softcap, fully_masked: self.fully_masked })
    }

    /// Checks the options that can be checked without the shape.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        if !is_finite(self.scale) {
            return Err(Error::invalid(op, "scale", self.scale, "finite"));
        }
        if let Some(cap) = self.softcap.filter(|cap| !in_default(|| cap.is_finite() && *cap > 0.0)) {
            return Err(Error::invalid(op, "softcap", cap, "finite and above 0"));
        }
        Ok(())
    }
}

/// Records a call's counts of fully masked and non-finite rows for [`report`]. Returns [`Error::FullyMasked`] if the
/// policy rejected a row.
pub(crate) fn finish_call(op: &'static str, guards: GuardCounts) -> Result<()> {
    report::record(op, guards.counts);
    match guards.first_refused {
        Some(row) => Err(Error::FullyMasked { op, row }),
        None => Ok(()),
    }
}

const OP: &str = "softmax";

/// Computes the softmax of each lane.
///
/// # Formula
/// ```text
/// y_i = e^(z_i - m) / sum_j e^(z_j - m),   m = max z,   z = scores after scale, softcap and mask (see Softmax)
/// ```
///
/// # Shapes
/// `x` is `[rows, cols]` ([`Rows`](crate::Rows)) or `[outer, len, inner]` ([`Lanes`]). The result has as many elements
/// as `x`, without gaps. A lane has at most 2^21 elements.
///
/// # Special values
/// | row | y |
/// |---|---|
/// | all -inf, or fully masked | zeros, 1/n or an error, as `fully_masked` selects |
/// | a NaN, unless a keep flag, length, causality or the window masks it | NaN in this row only |
/// | a logit of +inf | NaN in this row only |
/// | some scores -inf or masked | exactly 0 at these positions |
/// | one element | exactly 1 |
/// | no columns | empty |
///
/// # Accuracy
/// f32: 3.7 ULP at any length, including subnormal results. f16, bf16: 0.51 ULP. f64: 3 ULP for results of 2^-1021 or
/// more, and 3.5 ULP for smaller results.
///
/// Exponentials are added by a [fixed-point sum](crate::math::sum), so the bits of a row depend neither on its batch
/// nor on the machine.
///
/// If a softcap, scale or bias makes logits inexact, the bound holds for the softmax of the logits rounded to f64. For
/// types narrower than f64 without a softcap, the bound also holds for the exact logits if the scaled scores, and the
/// biases of unmasked elements, are below 2^24.
///
/// `docs/accuracy/softmax.md` derives the bounds for every row. In f32, tests assert 2 ULP on rows whose rounding
/// errors are independent, such as random rows. The largest error found is 2.5 ULP, in a row of scores chosen so that
/// the errors of all exponentials have the same sign. Rows of mostly equal scores can have such errors too, for example
/// under a softcap that most scores reach: 2.2 ULP were measured.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the mask or `out` does not fit `x`; [`Error::InvalidArgument`] if an option is out of
/// range; [`Error::FullyMasked`] under the policy [`FullyMasked::Error`]; [`Error::Unavailable`] if the requested
/// instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Source
/// Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990. The table-driven
/// exponential follows Tang, 1989.
///
/// # Example
/// ```
/// use evenkeel::{Mask, Rows, Softmax, softmax};
/// let inf = f32::INFINITY;
/// let scores = [1.0, 2.0, 3.0, -inf, -inf, -inf];
/// let y = softmax(Rows::new(&scores, 2, 3)?, &Softmax::default())?;
/// assert_eq!(y, [0.09003057, 0.24472848, 0.66524094, 0.0, 0.0, 0.0]); // no NaN in the masked row
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn softmax<'x, E: Element>(x: impl Into<Lanes<'x, E>>, options: &Softmax<'_>) -> Result<Vec<E>> {
    let x = x.into();
    new_vec(OP, x.geometry.shape.elements(), |out| {
        softmax_into(x, LanesMut::shaped(out, x.geometry.shape.dims(), x.geometry.axis as isize)?, options)
    })
}

/// Writes the result of [`softmax`] to `out`, which has the shape of `x`, and returns `out` as an initialised slice.
pub fn softmax_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    out: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, out) = (x.into(), out.into());
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let transform = options.resolve(OP, &x.geometry)?;
    let (written, guards) = E::softmax(x, out, transform)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`softmax`].
pub fn softmax_in_place<'a, E: Element>(x: impl Into<LanesMut<'a, E>>, options: &Softmax<'_>) -> Result<()> {
    let x = x.into();
    let transform = options.resolve(OP, &x.geometry)?;
    let guards = E::softmax_in_place(OP, x, transform)?;
    finish_call(OP, guards)
}
