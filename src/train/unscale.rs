//! Gradients of a scaled loss: unscaled, checked and clipped in one pass that reads and one that writes.

use super::loss_scaler::LossScaler;
use crate::cpu::clip_grad_norm::{Part, Scale};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::ops::clip_grad_norm::{ClipGradNorm, broken, multiply, refusal};
use crate::simd::in_default;

pub(crate) const OP: &str = "unscale";

/// What became of the gradients of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Unscaled {
    /// All are finite: they are unscaled and clipped.
    Ready {
        /// Their norm, unscaled and before it was clipped.
        norm: f64,
    },
    /// One is not, and nothing was changed. The optimiser is not to step.
    Skip {
        /// The error that names it: [`Error::NonFiniteInput`], whose `row` is the first tensor with a NaN or an infinity
        /// and whose `index` is the first of its elements that is one.
        why: Error,
    },
}

impl Unscaled {
    /// Whether the optimiser is to step.
    pub fn is_ready(&self) -> bool {
        matches!(self, Unscaled::Ready { .. })
    }
}

impl LossScaler {
    /// Unscales and clips the gradients of a scaled loss, if all of them are finite, and takes note of whether they are: the
    /// step is then UNSCALED.
    ///
    /// # Formula
    /// ```text
    /// g_i = g_i / scale * min(1, max_norm / norm),   norm = that of all g_i / scale
    /// ```
    /// with the reciprocal of the scale rounded to f32, as PyTorch's; both factors are one, and rounded once. Where the
    /// scale is a power of two, the bits are those of [`clip_grad_norm`](crate::clip_grad_norm) after an exact division.
    ///
    /// # Shapes
    /// Any number of slices, each all elements of a tensor. Not of f16, unless the scale is 1: what the scale has saved from
    /// vanishing would vanish now. Those are to be widened to f32, which [`Accumulator`](super::Accumulator) does.
    ///
    /// # Special values
    /// As [`clip_grad_norm`](crate::clip_grad_norm), but NaN and infinities are no error, whatever
    /// [`ClipGradNorm::error_if_nonfinite`] says: nothing is changed, and the step is to be left out. A scale below 1 may
    /// take a gradient beyond its type, to infinity, unless it is clipped.
    ///
    /// # Accuracy
    /// That of [`clip_grad_norm`](crate::clip_grad_norm).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the step is READY, for a max_norm that is negative or NaN, and for f16;
    /// [`Error::Backend`]. After each of them all is what it was.
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// use evenkeel::ClipGradNorm;
    /// use evenkeel::train::{LossScale, Unscaled};
    /// let mut scaler = LossScale::dynamic().init(1024.0).validate()?;
    /// let clip = ClipGradNorm::new(1.0);
    ///
    /// // The gradients of a loss that was multiplied with 1024.
    /// let mut grad = [3072.0f32, 4096.0];
    /// assert_eq!(scaler.unscale(&mut [(&mut grad).into()], &clip)?, Unscaled::Ready { norm: 5.0 });
    /// assert_eq!((grad, scaler.step()?), ([0.6, 0.8], true));
    /// scaler.update()?;
    ///
    /// let mut grad = [3072.0, f32::INFINITY];
    /// let Unscaled::Skip { why } = scaler.unscale(&mut [(&mut grad).into()], &clip)? else { panic!() };
    /// assert_eq!((why.row(), why.index()), (Some(0), Some(1)));
    /// assert_eq!((grad[0], scaler.step()?), (3072.0, false));
    /// scaler.update()?;
    /// assert_eq!(scaler.scale(), 512.0);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn unscale(&mut self, grads: &mut [FloatsMut<'_>], clip: &ClipGradNorm) -> Result<Unscaled> {
        in_default(|| self.unscale_here(grads, clip))
    }

    fn unscale_here(&mut self, grads: &mut [FloatsMut<'_>], clip: &ClipGradNorm) -> Result<Unscaled> {
        clip.check()?;
        self.check_ready()?;
        let narrow = grads.iter().position(|grad| grad.dtype() == DType::F16);
        if let Some(tensor) = narrow.filter(|_| self.inverse() != 1.0) {
            let expected = "F32, F64 or BF16: without their scale small ones vanish";
            return Err(Error::invalid_in_row(OP, "a gradient's type", tensor, DType::F16, expected));
        }
        let parts = grads.iter().map(|grad| grad.as_floats().norm_part(clip.norm_type)).collect::<Result<Vec<_>>>()?;
        let (norm, scale) = self.settle(clip, &parts);
        if let Some(tensor) = broken(&parts) {
            let why = refusal(OP, tensor, grads[tensor].as_floats())?;
            self.record(false)?;
            return Ok(Unscaled::Skip { why });
        }
        if let Some(scale) = scale {
            multiply(grads, scale)?;
        }
        self.record(true)?;
        Ok(Unscaled::Ready { norm })
    }

    /// What the parts of all tensors come to: the norm, and what to multiply with, unless that is nothing.
    pub(crate) fn settle(&self, clip: &ClipGradNorm, parts: &[Part]) -> (f64, Option<Scale>) {
        in_default(|| clip.settle_scaled(OP, parts, f64::from(self.inverse())))
    }
}
