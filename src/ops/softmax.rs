//! Softmax with masks, and the options that the softmax family shares.

use super::{is_finite, same_lanes};
use crate::cpu;
use crate::cpu::lanes::Met;
use crate::cpu::scores::Scores;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Mask};
use crate::math::sum::MAX_TERMS;
use crate::report;
use crate::rows::{Geometry, Lanes, LanesMut};
use crate::simd::{in_default, new_vec};

/// Options of [`softmax`], [`log_softmax`](crate::log_softmax) and [`logsumexp`](crate::logsumexp).
///
/// A score becomes a logit by scale, then softcap, then the mask's bias, in f64, or in two f32 where they hold as much as
/// shows in a result; a score of -inf is masked before that, and so is whatever the mask's other parts exclude.
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
    /// What may be attended to; nothing is masked by default.
    pub mask: Option<&'a Mask<'a>>,
    /// Multiplies the scores: 1/sqrt(d) in attention. Finite; 1 by default.
    pub scale: f64,
    /// Bounds the scaled scores smoothly, `cap * tanh(score / cap)`, as Gemma 2 does. Finite and above zero; none by
    /// default.
    pub softcap: Option<f64>,
    /// What a row with nothing to attend to gives; zeros by default.
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

    /// Checks the options against what they are for.
    pub(crate) fn resolve(&self, op: &'static str, geometry: &Geometry) -> Result<Scores<'a>> {
        let mask = self.mask.filter(|mask| !mask.is_none()).map(|mask| mask.resolve(op, geometry)).transpose()?;
        if geometry.len() > MAX_TERMS {
            return Err(Error::invalid(op, "columns", geometry.len(), format!("at most {MAX_TERMS}")));
        }
        self.check(op)?;
        Ok(Scores { mask, scale: self.scale, softcap: self.softcap, fully_masked: self.fully_masked })
    }

    /// Checks what does not depend on the view.
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

/// Reports a call, and refuses what the policy refuses.
pub(crate) fn settle(op: &'static str, met: Met) -> Result<()> {
    report::record(op, met.counts);
    match met.first_refused {
        Some(row) => Err(Error::FullyMasked { op, row }),
        None => Ok(()),
    }
}

const OP: &str = "softmax";

/// Softmax along each lane.
///
/// # Formula
/// ```text
/// y_i = e^(z_i - m) / sum_j e^(z_j - m),   m = max z,   z = logits of the scores (see Softmax)
/// ```
///
/// # Shapes
/// `x` is `[rows, cols]` ([`Rows`](crate::Rows)) or `[outer, len, inner]` ([`Lanes`]); the result has as many
/// elements, without gaps. At most 2^21 columns.
///
/// # Special values
/// | row | y |
/// |---|---|
/// | all -inf, or wholly masked | the policy: zeros, 1/n, or an error |
/// | a NaN that is not behind a keep flag of 0 | NaN in this row only |
/// | a logit of +inf | NaN in this row only |
/// | some -inf or masked | 0 there, exactly |
/// | one element | 1, exactly |
/// | no columns | nothing |
///
/// # Accuracy
/// f32: 3.7 ULP at any length, subnormal results kept. On rows whose errors are unrelated, such as random ones, 2 ULP were
/// measured and are asserted by tests. f16, bf16: 0.51 ULP. f64: 3 ULP for results of 2^-1021 or more, half an ULP more
/// below. Sums are exact ([rule Q](crate::math::sum)); a row gives the same bits wherever and however it is computed. With a
/// softcap, or a scale or bias that makes logits inexact, the bound is against the logits as rounded to f64. It is against the
/// exact logits too, for narrower types than f64 without a softcap, where scores times the scale, and the biases of elements
/// that count, are below 2^24.
///
/// The bounds are derived for every row in `docs/accuracy/softmax.md`. In f32 the largest error found is 2.5 ULP, in a row of
/// scores chosen so that the errors of their exponentials have one sign. Mostly equal scores, as under a softcap that most of
/// them reach, can have such errors: 2.2 ULP measured.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::InvalidArgument`] for options out of their range, [`Error::FullyMasked`] under
/// that policy, [`Error::Backend`].
///
/// # Panics
/// Never.
///
/// # Source
/// Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990; the table-driven
/// exponential after Tang, 1989.
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

/// [`softmax`] into `out`, which has the shape of `x`; returns the memory of `out`.
pub fn softmax_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    out: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, out) = (x.into(), out.into());
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let (written, met) = E::softmax(x, out, cpu::softmax::Softmax(scores))?;
    settle(OP, met)?;
    Ok(written)
}

/// [`softmax`] in place.
pub fn softmax_in_place<'a, E: Element>(x: impl Into<LanesMut<'a, E>>, options: &Softmax<'_>) -> Result<()> {
    let x = x.into();
    let scores = options.resolve(OP, &x.geometry)?;
    let met = E::softmax_in_place(OP, x, cpu::softmax::Softmax(scores))?;
    settle(OP, met)
}
