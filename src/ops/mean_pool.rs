//! The mean over the tokens of each sequence that are not masked.

use super::softmax::settle;
use crate::cpu;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Mask};
use crate::rows::{Geometry, Lanes};
use crate::simd::{Output, new_vec};

/// Options of [`mean_pool`] and [`mean_pool_backward`](crate::mean_pool_backward()).
///
/// ```
/// use evenkeel::{Mask, MeanPool};
/// let lengths = [3, 0];
/// let mask = Mask::lengths(&lengths);
/// let options = MeanPool::default().mask(&mask);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct MeanPool<'a> {
    /// Which tokens count, by flags or lengths over `[batch, tokens]`; all of them by default.
    pub mask: Option<&'a Mask<'a>>,
    /// What a sequence gives of whose tokens none counts: zeros, by default, or an error. Uniform has no meaning here.
    pub fully_masked: FullyMasked,
}

impl<'a> MeanPool<'a> {
    /// Sets [`MeanPool::mask`].
    pub fn mask(self, mask: &'a Mask<'a>) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Sets [`MeanPool::fully_masked`].
    pub fn fully_masked(self, policy: FullyMasked) -> Self {
        Self { fully_masked: policy, ..self }
    }

    /// Checks the options against what they are for: lanes of tokens.
    pub(crate) fn resolve(&self, op: &'static str, geometry: &Geometry) -> Result<cpu::mean_pool::MeanPool<'a>> {
        let mask = self.mask.filter(|mask| !mask.is_none());
        if mask.is_some_and(|mask| !mask.is_of_keys()) {
            return Err(Error::invalid(op, "mask", "more than flags and lengths", "of flags and lengths alone"));
        }
        if self.fully_masked == FullyMasked::Uniform {
            return Err(Error::invalid(op, "fully_masked", "Uniform", "Zeros or Error"));
        }
        let tokens = geometry.up_to_axis()?;
        let mask = mask.map(|mask| mask.resolve(op, &tokens)).transpose()?;
        Ok(cpu::mean_pool::MeanPool { mask, refuses: self.fully_masked == FullyMasked::Error })
    }
}

const OP: &str = "mean_pool";

/// The mean over the tokens of each sequence that are not masked: a sentence's embedding.
///
/// # Formula
/// ```text
/// y[b, d] = sum x[b, t, d] / n_b,   over the n_b tokens t of sequence b that are not masked
/// ```
///
/// # Shapes
/// `x` is lanes of tokens, `[batch, tokens, width]` along axis 1 ([`Lanes`]); the mask broadcasts to `[batch, tokens]`.
/// The result is `[batch, width]`.
///
/// # Special values
/// | what | y |
/// |---|---|
/// | a masked token | not read: NaN there is harmless |
/// | all tokens masked | zeros, or an error under that policy |
/// | no tokens | zeros |
/// | a NaN in a token that counts | NaN in its column of this sequence only |
/// | infinities | their sum |
/// | sums beyond f16, f32 or f64 | right: f64, scaled for f64 tokens |
///
/// # Accuracy
/// In ULP of the largest term, which sums may cancel to far less than: f32 0.501, f16 and bf16 0.51, f64 16, and 1 more
/// for every 16,384 tokens. Sums follow [rule O](crate::math::sum) by token, masked ones adding nothing: padding behind a
/// sequence does not change a bit.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a mask or an output that does not fit; [`Error::InvalidArgument`] for a mask with biases,
/// causality or a window, and for the policy Uniform; [`Error::FullyMasked`] under that policy, whose row is the
/// sequence; [`Error::Backend`].
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Lanes, Mask, MeanPool, mean_pool};
/// // Two sequences of up to two tokens of width 2; the second is padding, and nobody cleared it.
/// let x = [1.0f32, 2.0, 3.0, 4.0, f32::NAN, f32::NAN, f32::NAN, f32::NAN];
/// let mask = Mask::lengths(&[2, 0]);
/// let y = mean_pool(Lanes::shaped(&x, &[2, 2, 2], 1)?, &MeanPool::default().mask(&mask))?;
/// assert_eq!(y, [2.0, 3.0, 0.0, 0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn mean_pool<E: Element>(x: Lanes<'_, E>, options: &MeanPool<'_>) -> Result<Vec<E>> {
    let kernel = options.resolve(OP, &x.geometry)?;
    new_vec(OP, x.lanes(), |out| run(x, out.into(), kernel))
}

/// [`mean_pool`] into `out`, which has an element for each column of each sequence; returns what was written.
pub fn mean_pool_into<'a, E: Element>(
    x: Lanes<'_, E>,
    out: impl Into<Output<'a, E>>,
    options: &MeanPool<'_>,
) -> Result<&'a mut [E]> {
    let out = out.into();
    if out.len() != x.lanes() {
        let expected = format!("one for each of {} columns of sequences", x.lanes());
        return Err(Error::shape(OP, "out", format!("{} elements", out.len()), expected));
    }
    run(x, out, options.resolve(OP, &x.geometry)?)
}

fn run<'a, E: Element>(
    x: Lanes<'_, E>,
    out: Output<'a, E>,
    kernel: cpu::mean_pool::MeanPool<'_>,
) -> Result<&'a mut [E]> {
    let (written, met) = E::mean_pool(x, out, kernel)?;
    settle(OP, met)?;
    Ok(written)
}
