//! Adaptive gradient clipping, relative to the norm of the weights.

use crate::cpu::clip_grad_norm::Norm;
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::ops::clip_grad_norm::{NormType, refusal};
use crate::simd::in_default;

const OP: &str = "adaptive_clip";

/// Adaptive gradient clipping: limits the gradient norm of each unit to a fraction of the unit's weight norm.
///
/// # Formula
/// ```text
/// g_u = g_u * min(1, clipping * max(|w_u|, eps) / |g_u|),   for each unit u
/// ```
///
/// # Shapes
/// Weights have the same shapes as in PyTorch: axis 0 runs over the outputs. A tensor with two or more axes has one
/// unit per output; any other tensor is a single unit. It is better not to clip the first and the last layer of a
/// model.
///
/// # Special values
/// | gradient of a unit | result |
/// |---|---|
/// | within its limit | unchanged, bit by bit |
/// | above its limit, with weights that are 0 | scaled down to a norm of clipping * eps |
/// | NaN or an infinity in the gradient or in the weights | an error, and nothing is changed |
///
/// # Accuracy
/// The same as for [`clip_grad_norm`](crate::clip_grad_norm).
///
/// # Panics
/// Never.
///
/// # Source
/// Brock, De, Smith and Simonyan, "High-performance large-scale image recognition without normalization", 2021.
///
/// # Example
/// ```
/// use evenkeel::train::AdaptiveClip;
/// let weight = [3.0f32, 4.0, 0.0, 0.0];
/// let mut grad = [3.0f32, 4.0, 3.0, 4.0];
/// let clipped = AdaptiveClip::default().clip(&mut grad, &weight, &[2, 2])?;
/// assert_eq!((clipped, grad), (2, [0.03, 0.04, 6e-6, 8e-6]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct AdaptiveClip {
    /// Maximum ratio of the gradient norm to the weight norm. Finite, not negative; 0.01 by default. Larger batches
    /// need a smaller value.
    pub clipping: f64,
    /// Lower bound for the norm of weights, so that weights of 0 can change. Finite, not negative; 1e-3 by default.
    pub eps: f64,
}

impl Default for AdaptiveClip {
    fn default() -> Self {
        AdaptiveClip { clipping: 0.01, eps: 1e-3 }
    }
}

impl AdaptiveClip {
    /// Sets [`AdaptiveClip::clipping`].
    pub fn clipping(self, clipping: f64) -> Self {
        Self { clipping, ..self }
    }

    /// Sets [`AdaptiveClip::eps`].
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Clips the gradient of a tensor of this shape, and returns the number of units that were clipped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for settings that are negative or not finite. [`Error::ShapeMismatch`] if the number
    /// of gradients or weights does not match the shape. [`Error::NonFiniteInput`] for a NaN or an infinity in a unit's
    /// gradient or weights, with the first such unit as `row`. [`Error::Unavailable`] if the requested instruction set
    /// is unavailable. After an error the gradient is unchanged.
    pub fn clip<'a, 'b>(
        &self,
        grad: impl Into<FloatsMut<'a>>,
        weight: impl Into<Floats<'b>>,
        shape: &[usize],
    ) -> Result<usize> {
        let (grad, weight) = (grad.into(), weight.into());
        in_default(|| self.clip_units(grad, weight, shape))
    }

    fn clip_units(&self, grad: FloatsMut<'_>, weight: Floats<'_>, shape: &[usize]) -> Result<usize> {
        for (argument, value) in [("clipping", self.clipping), ("eps", self.eps)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::invalid(OP, argument, value, "finite and not negative"));
            }
        }
        let count = shape.iter().try_fold(1usize, |count, &axis| count.checked_mul(axis));
        for (what, len) in [("the gradient", grad.len()), ("the weight", weight.len())] {
            if count != Some(len) {
                return Err(Error::shape(OP, what, format!("{len} elements"), format!("shape {shape:?}")));
            }
        }
        if grad.is_empty() {
            return Ok(0);
        }
        let unit = if shape.len() < 2 { grad.len() } else { grad.len() / shape[0] };
        let mut scales = Vec::with_capacity(grad.len() / unit);
        for (row, first) in (0..grad.len()).step_by(unit).enumerate() {
            let norm = |floats: Floats<'_>| {
                let part = floats.part(first..first + unit).norm_part(NormType::Two)?;
                if part.value.is_finite() {
                    return Ok(Norm::of(&[part], NormType::Two));
                }
                Err(refusal(OP, "row", row, floats.part(first..first + unit))?)
            };
            let (of_grad, of_weight) = (norm(grad.as_floats())?, norm(weight)?.to_f64());
            // If the norm of the weights exceeds f64, the limit is infinite.
            let allowed = self.clipping * of_weight.max(self.eps);
            scales.push((of_grad.to_f64() > allowed).then(|| of_grad.scale_to(allowed, 1.0)));
        }
        let mut rest = grad;
        for scale in &scales {
            let (mut unit, more) = rest.split_at(unit);
            if let Some(scale) = scale {
                unit.scale(*scale)?;
            }
            rest = more;
        }
        Ok(scales.iter().flatten().count())
    }
}
