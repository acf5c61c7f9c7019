//! Gradient clipping by the norm over all tensors.

use super::is_in_zero_to;
use crate::cpu::clip_grad_norm::{Norm, Scale, TensorNorm};
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::report::{self, Counts};
use crate::simd::in_default;

pub use crate::options::NormType;

pub(crate) const OP: &str = "clip_grad_norm";

/// Formula for the factor by which [`clip_grad_norm`] multiplies the gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClipMode {
    /// `max_norm / norm` if the norm exceeds the limit and all elements are finite. Otherwise gradients stay unchanged,
    /// bit by bit.
    #[default]
    Exact,
    /// `min(1, max_norm / (norm + 1e-6))`, as in torch's `clip_grad_norm_`. Gradients whose norm equals the limit are
    /// scaled down slightly too. With a finite limit, the factor is 0 for a norm of +inf, and NaN for a norm of NaN.
    Torch,
}

/// Options of [`clip_grad_norm`].
///
/// ```
/// use evenkeel::{ClipGradNorm, ClipMode, NormType};
/// let usual = ClipGradNorm::new(1.0);
/// let as_in_torch = ClipGradNorm::new(1.0).mode(ClipMode::Torch).error_if_nonfinite(false);
/// let largest = ClipGradNorm::new(0.5).norm_type(NormType::Infinity);
/// # let _ = (usual, as_in_torch, largest);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClipGradNorm {
    /// Upper limit of the norm. Not negative and not NaN; infinity means no limit.
    pub max_norm: f64,
    /// Norm to compute; [`NormType::Two`] by default.
    pub norm_type: NormType,
    /// Factor to apply; [`ClipMode::Exact`] by default.
    pub mode: ClipMode,
    /// Whether a NaN or an infinity is an error; true by default.
    pub error_if_nonfinite: bool,
}

impl ClipGradNorm {
    /// Creates options with the given limit. The other options have their defaults.
    pub fn new(max_norm: f64) -> Self {
        ClipGradNorm { max_norm, norm_type: NormType::Two, mode: ClipMode::Exact, error_if_nonfinite: true }
    }

    /// Sets [`ClipGradNorm::norm_type`].
    pub fn norm_type(self, norm_type: NormType) -> Self {
        Self { norm_type, ..self }
    }

    /// Sets [`ClipGradNorm::mode`].
    pub fn mode(self, mode: ClipMode) -> Self {
        Self { mode, ..self }
    }

    /// Sets [`ClipGradNorm::error_if_nonfinite`].
    pub fn error_if_nonfinite(self, error_if_nonfinite: bool) -> Self {
        Self { error_if_nonfinite, ..self }
    }

    /// Checks the options that do not depend on the gradients.
    pub(crate) fn check(&self) -> Result<()> {
        // `is_in_zero_to` returns false for NaN, so NaN is rejected.
        let is_valid = is_in_zero_to(self.max_norm, f64::INFINITY);
        if is_valid { Ok(()) } else { Err(Error::invalid(OP, "max_norm", self.max_norm, "0 or more")) }
    }

    /// Computes the norm over all tensors, and the scale. The scale is `None` if the gradients stay unchanged. For
    /// [`report`], the function records how many tensors have a NaN and how many have an infinity.
    pub(crate) fn finish(&self, parts: &[TensorNorm]) -> (f64, Option<Scale>) {
        self.finish_scaled(OP, parts, 1.0)
    }

    /// Computes the result of [`ClipGradNorm::finish`] for gradients that are multiplied by a positive `factor` before
    /// clipping. The returned scale includes `factor`.
    pub(crate) fn finish_scaled(&self, op: &'static str, parts: &[TensorNorm], factor: f64) -> (f64, Option<Scale>) {
        in_default(|| self.finish_here(op, parts, factor))
    }

    fn finish_here(&self, op: &'static str, parts: &[TensorNorm], factor: f64) -> (f64, Option<Scale>) {
        let has = |what: fn(f64) -> bool| parts.iter().filter(|part| what(part.value)).count() as u64;
        let (nan, infinite) = (has(f64::is_nan), has(f64::is_infinite));
        report::record(op, Counts { rows: parts.len() as u64, nan, infinite, ..Counts::default() });
        self.scaled(Norm::of(parts, self.norm_type).times(factor), factor)
    }

    /// Returns the norm in f64, and the scale that the caller must apply. The scale is `None` if the gradients stay
    /// unchanged.
    fn scaled(&self, norm: Norm, factor: f64) -> (f64, Option<Scale>) {
        let wide = norm.to_f64();
        let clipped = match self.mode {
            ClipMode::Exact => (norm.is_finite() && wide > self.max_norm).then(|| norm.scale_to(self.max_norm, factor)),
            ClipMode::Torch if norm.is_finite() => {
                let more = norm.plus(1e-6);
                (more.to_f64() > self.max_norm).then(|| more.scale_to(self.max_norm, factor))
            }
            ClipMode::Torch => Some(Scale::by(factor * (self.max_norm / wide))),
        };
        let scale = clipped.or((factor != 1.0).then_some(Scale::by(factor)));
        // The bits of a NaN depend on the order in which an instruction set combines elements. Therefore every NaN is
        // replaced by the same NaN.
        (if wide.is_nan() { f64::NAN } else { wide }, scale)
    }

    /// Returns the index of the first tensor with a NaN or an infinity if the options reject such values. Otherwise
    /// returns `None`.
    pub(crate) fn refuses(&self, parts: &[TensorNorm]) -> Option<usize> {
        if self.error_if_nonfinite { broken(parts) } else { None }
    }
}

/// Returns the index of the first tensor with a NaN or an infinity, if there is one.
pub(crate) fn broken(parts: &[TensorNorm]) -> Option<usize> {
    in_default(|| parts.iter().position(|part| !part.value.is_finite()))
}

/// Scales gradients so that their norm over all tensors is within a limit, and returns the norm before scaling.
///
/// # Formula
/// ```text
/// g_i = g_i * min(1, max_norm / norm),   norm = sqrt(sum g_i^2), sum |g_i| or max |g_i| over all tensors
/// ```
///
/// # Shapes
/// `grads` holds any number of slices. Each slice has all elements of one tensor and may have any float type. `into()`
/// converts a slice to a [`FloatsMut`].
///
/// # Special values
/// | gradients | result |
/// |---|---|
/// | a norm (in mode `Torch`, norm + 1e-6) within the limit, or no gradients | unchanged, bit by bit |
/// | max_norm = 0 and a norm above it | zeros |
/// | squares or sums that overflow or underflow | correct: computed in f64; f64 gradients are scaled first |
/// | finite f64 gradients whose norm exceeds the range of f64 | clipped; the returned norm is +inf |
/// | NaN or an infinity, with `error_if_nonfinite` | an error; gradients are unchanged |
/// | a NaN, without `error_if_nonfinite`, mode `Exact` | unchanged; the norm is NaN |
/// | an infinity but no NaN, without `error_if_nonfinite`, mode `Exact` | unchanged; the norm is +inf |
/// | a NaN, without `error_if_nonfinite`, mode `Torch` | all NaN |
/// | an infinity but no NaN, without `error_if_nonfinite`, mode `Torch` | NaN for infinities, 0 for the others |
///
/// The last row requires a finite max_norm.
///
/// # Accuracy
/// The error of a clipped gradient is at most 0.501 ULP in f32, and 0.51 ULP in f16 and bf16. In f64 it is 4 ULP plus
/// the error of the norm. The error of the norm is at most 16 ULP of f64, plus 1 ULP for every 16,384 elements. For
/// random gradients, the measured error of the norm was 2 ULP.
///
/// A [tiled sum](crate::math::sum) adds the squares or magnitudes of each tensor's elements, and another tiled sum adds
/// the results of the tensors. The bits are the same for every thread count.
///
/// # Errors
/// [`Error::InvalidArgument`] if max_norm is negative or NaN; [`Error::NonFiniteInput`] for a NaN or an infinity, where
/// `row` is the index of the first tensor with such an element, and `index` is the index of the first such element in
/// this tensor; [`Error::Unavailable`] if the requested instruction set is unavailable. After an error the gradients
/// are unchanged.
///
/// # Panics
/// Never.
///
/// # Source
/// Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
///
/// # Example
/// ```
/// use evenkeel::{ClipGradNorm, clip_grad_norm};
/// use half::f16;
/// // The squares of these values overflow f16.
/// let (mut a, mut b) = ([f16::from_f32(300.0); 2], [f32::MIN_POSITIVE, 0.0]);
/// let norm = clip_grad_norm(&mut [(&mut a).into(), (&mut b).into()], &ClipGradNorm::new(1.0))?;
/// assert_eq!(norm as f32, 424.26407);
/// assert_eq!(a, [f16::from_f32(0.70710677); 2]);
///
/// let refused = clip_grad_norm(&mut [(&mut a).into(), (&mut [1.0, f64::NAN]).into()], &ClipGradNorm::new(1.0));
/// assert_eq!(refused.map_err(|e| (e.row(), e.index())), Err((Some(1), Some(1))));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clip_grad_norm(grads: &mut [FloatsMut<'_>], options: &ClipGradNorm) -> Result<f64> {
    options.check()?;
    let parts =
        grads.iter().map(|grad| grad.as_floats().norm_part(options.norm_type)).collect::<Result<Vec<TensorNorm>>>()?;
    let (norm, scale) = options.finish(&parts);
    if let Some(tensor) = options.refuses(&parts) {
        return Err(refusal(OP, "tensor", tensor, grads[tensor].as_floats())?);
    }
    if let Some(scale) = scale {
        multiply(grads, scale)?;
    }
    Ok(norm)
}

/// Multiplies all tensors by the scale, from the last tensor to the first. The norm was computed just before, so the
/// last tensor is still in the cache.
pub(crate) fn multiply(grads: &mut [FloatsMut<'_>], scale: Scale) -> Result<()> {
    grads.iter_mut().rev().try_for_each(|grad| grad.scale(scale))
}

/// Returns the error for a gradient with a NaN or an infinity. The error names the first such element. `part` is a word
/// for the gradient, such as "tensor", and `at` is the index of the gradient.
pub(crate) fn refusal(op: &'static str, part: &'static str, at: usize, grad: Floats<'_>) -> Result<Error> {
    let index = grad.finite()?.first.unwrap_or(0);
    Ok(Error::NonFiniteInput { op, part, row: at, index, value: grad.get(index).unwrap_or(f64::NAN) })
}
