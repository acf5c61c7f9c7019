//! Unscaling of the gradients of a scaled loss. A first pass checks all gradients. A second pass unscales and clips
//! them.

use super::loss_scaler::LossScaler;
use crate::cpu::clip_grad_norm::{Scale, TensorNorm};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::ops::clip_grad_norm::{ClipGradNorm, broken, multiply, refusal};
use crate::simd::in_default;

pub(crate) const OP: &str = "unscale";

/// Result of unscaling the gradients of a step.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums, reason = "the gradients are finite or not")]
pub enum Unscaled {
    /// All gradients are finite. They are now unscaled and clipped.
    #[non_exhaustive]
    Ready {
        /// Norm of the unscaled gradients before clipping.
        norm: f64,
    },
    /// A gradient is not finite, and nothing was changed. The optimiser must not step.
    #[non_exhaustive]
    Skip {
        /// An [`Error::NonFiniteInput`]. Its `row` is the index of the first tensor with a NaN or an infinity. Its
        /// `index` is the position of the first NaN or infinity in this tensor.
        why: Error,
    },
}

impl Unscaled {
    /// Returns whether the optimiser may step.
    pub fn is_ready(&self) -> bool {
        matches!(self, Unscaled::Ready { .. })
    }
}

impl LossScaler {
    /// Unscales and clips the gradients of a scaled loss if all are finite, and records whether all are finite. The
    /// stage of the step becomes UNSCALED.
    ///
    /// # Formula
    /// ```text
    /// g_i = g_i / scale * min(1, max_norm / norm),   norm = norm of all g_i / scale
    /// ```
    /// The reciprocal of the scale is rounded to f32, as in PyTorch. The product of the reciprocal and the factor
    /// min(..) is computed first. Each gradient is then multiplied by this product, and rounded only once. If the scale
    /// is a power of two, the result has the same bits as an exact division by the scale followed by
    /// [`clip_grad_norm`](crate::clip_grad_norm).
    ///
    /// # Shapes
    /// Any number of slices, each with all elements of one tensor. Gradients of f16 are rejected unless the scale is 1,
    /// because small gradients would vanish when they are unscaled. Widen f16 gradients to f32, for example with an
    /// [`Accumulator`](super::Accumulator).
    ///
    /// # Special values
    /// Special values are handled as in [`clip_grad_norm`](crate::clip_grad_norm), except for NaN and infinities. A NaN
    /// or an infinity never makes this method fail, even if [`ClipGradNorm::error_if_nonfinite`] is set. Instead, the
    /// method returns [`Unscaled::Skip`] and changes nothing. The step must then be skipped. With a scale below 1, an
    /// unscaled gradient may exceed the range of its type. Unless it is clipped, it then becomes infinite.
    ///
    /// # Accuracy
    /// The same as for [`clip_grad_norm`](crate::clip_grad_norm).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the stage is not READY, if `max_norm` is negative or NaN, or if a gradient is f16
    /// and the scale is not 1. [`Error::Unavailable`] if the requested instruction set is unavailable. After an error
    /// nothing has changed.
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
    /// // Gradients of a loss that was multiplied by 1024.
    /// let mut grad = [3072.0f32, 4096.0];
    /// let unscaled = scaler.unscale(&mut [(&mut grad).into()], &clip)?;
    /// assert!(matches!(unscaled, Unscaled::Ready { norm: 5.0, .. }));
    /// assert_eq!((grad, scaler.step()?), ([0.6, 0.8], true));
    /// scaler.update()?;
    ///
    /// let mut grad = [3072.0, f32::INFINITY];
    /// let Unscaled::Skip { why, .. } = scaler.unscale(&mut [(&mut grad).into()], &clip)? else { panic!() };
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
            let expected = "F32, F64 or BF16, because small unscaled gradients vanish in F16";
            let (argument, value) = ("a gradient's type", format!("{} in tensor {tensor}", DType::F16));
            return Err(Error::InvalidArgument {
                op: OP,
                argument,
                value,
                expected: expected.into(),
                row: Some(tensor),
            });
        }
        let parts = grads.iter().map(|grad| grad.as_floats().norm_part(clip.norm_type)).collect::<Result<Vec<_>>>()?;
        let (norm, scale) = self.finish(clip, &parts);
        if let Some(tensor) = broken(&parts) {
            let why = refusal(OP, "tensor", tensor, grads[tensor].as_floats())?;
            self.record(false)?;
            return Ok(Unscaled::Skip { why });
        }
        if let Some(scale) = scale {
            multiply(grads, scale)?;
        }
        self.record(true)?;
        Ok(Unscaled::Ready { norm })
    }

    /// Combines the partial norms of the tensors. Returns the norm of all gradients, and the factor by which all
    /// gradients must be multiplied. The factor is `None` if the gradients stay unchanged.
    pub(crate) fn finish(&self, clip: &ClipGradNorm, parts: &[TensorNorm]) -> (f64, Option<Scale>) {
        in_default(|| clip.finish_scaled(OP, parts, f64::from(self.inverse())))
    }
}
