//! Mean pooling: the mean over the unmasked tokens of each sequence.

use super::softmax::finish_call;
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
    /// Selects the tokens to average, by flags or lengths over `[batch, tokens]`. By default, all tokens are averaged.
    pub mask: Option<&'a Mask<'a>>,
    /// Result for a sequence whose tokens are all masked: zeros (the default) or an error. The policy Uniform is
    /// rejected.
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

    /// Checks the options against the view, and resolves the mask. The lanes of the view run along the tokens.
    pub(crate) fn resolve(&self, op: &'static str, geometry: &Geometry) -> Result<cpu::mean_pool::MeanPool<'a>> {
        let mask = self.mask.filter(|mask| !mask.is_none());
        if mask.is_some_and(|mask| !mask.is_of_keys()) {
            return Err(Error::invalid(
                op,
                "mask",
                "a mask with a bias, causality or a window",
                "a mask of flags and lengths only",
            ));
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

/// Computes the mean of the unmasked tokens of each sequence, for example as a sentence embedding.
///
/// # Formula
/// ```text
/// y[b, d] = sum x[b, t, d] / n_b,   over the n_b tokens t of sequence b that are not masked
/// ```
///
/// # Shapes
/// `x` is `[batch, tokens, width]`, viewed as [`Lanes`] along axis 1. The mask broadcasts to `[batch, tokens]`. The
/// result is `[batch, width]`.
///
/// # Special values
/// | input | y |
/// |---|---|
/// | a masked token | not read, so it may hold NaN |
/// | all tokens masked | zeros, or an error under the policy Error |
/// | no tokens | zeros |
/// | a NaN in an unmasked token | NaN in its column of this sequence only |
/// | infinities in unmasked tokens | the sum of these infinities in each column: infinite, or NaN if both signs occur |
/// | sums that overflow f16, f32 or f64 | correct: sums are computed in f64, and scaled down if tokens are f64 |
///
/// # Accuracy
/// Bounds are in ULP of the largest term, because terms may cancel. They are 0.501 in f32, and 0.51 in f16 and bf16.
/// The bound of f64 is 16, plus 1 for every 16,384 tokens. Each column is summed by a [tiled sum](crate::math::sum)
/// over tokens, in which masked tokens add nothing. Padding after a sequence therefore changes no bit of the result.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a mask or an output of the wrong shape; [`Error::InvalidArgument`] for a mask with
/// biases, causality or a window, and for the policy Uniform; [`Error::FullyMasked`] under the policy Error, where the
/// row is the sequence's index; [`Error::Unavailable`] if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Lanes, Mask, MeanPool, mean_pool};
/// // Two sequences of up to two tokens of width 2. The second has no tokens, and its padding holds NaN.
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

/// Writes the result of [`mean_pool`] to `out`, which has `batch * width` elements, and returns the written slice.
pub fn mean_pool_into<'a, E: Element>(
    x: Lanes<'_, E>,
    out: impl Into<Output<'a, E>>,
    options: &MeanPool<'_>,
) -> Result<&'a mut [E]> {
    let out = out.into();
    if out.len() != x.lanes() {
        let expected = format!("batch * width = {}", x.lanes());
        return Err(Error::shape(OP, "out", format!("{} elements", out.len()), expected));
    }
    run(x, out, options.resolve(OP, &x.geometry)?)
}

fn run<'a, E: Element>(
    x: Lanes<'_, E>,
    out: Output<'a, E>,
    kernel: cpu::mean_pool::MeanPool<'_>,
) -> Result<&'a mut [E]> {
    let (written, guards) = E::mean_pool(x, out, kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}
