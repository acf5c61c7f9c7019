//! Records of training steps.

use super::layer::Layer;
use super::warning::Warning;

/// Numbers of a training step.
///
/// ```
/// use evenkeel::train::Step;
/// let step = Step::new(7, 0.25).norm(1.5).learning_rate(1e-3);
/// assert_eq!((step.loss, step.norm, step.scale), (0.25, Some(1.5), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Step {
    /// Number of the step.
    pub step: u64,
    /// Unscaled loss.
    #[cfg_attr(feature = "serde", serde(serialize_with = "number"))]
    pub loss: f64,
    /// Norm of the unscaled gradients before clipping.
    #[cfg_attr(feature = "serde", serde(serialize_with = "optional", skip_serializing_if = "Option::is_none"))]
    pub norm: Option<f64>,
    /// Norm of the gradients after clipping.
    #[cfg_attr(feature = "serde", serde(serialize_with = "optional", skip_serializing_if = "Option::is_none"))]
    pub clipped_norm: Option<f64>,
    /// Scale of the loss.
    #[cfg_attr(feature = "serde", serde(serialize_with = "optional_f32", skip_serializing_if = "Option::is_none"))]
    pub scale: Option<f32>,
    /// Learning rate.
    #[cfg_attr(feature = "serde", serde(serialize_with = "optional", skip_serializing_if = "Option::is_none"))]
    pub learning_rate: Option<f64>,
    /// Whether the step was skipped because gradients were not finite.
    pub skipped: bool,
}

impl Step {
    /// Creates a step with its number and its loss, and without the other values.
    pub fn new(step: u64, loss: f64) -> Self {
        Step { step, loss, norm: None, clipped_norm: None, scale: None, learning_rate: None, skipped: false }
    }

    /// Sets the norm of the unscaled gradients before clipping.
    pub fn norm(self, norm: f64) -> Self {
        Step { norm: Some(norm), ..self }
    }

    /// Sets the norm of the gradients after clipping.
    pub fn clipped_norm(self, clipped_norm: f64) -> Self {
        Step { clipped_norm: Some(clipped_norm), ..self }
    }

    /// Sets the scale of the loss.
    pub fn scale(self, scale: f32) -> Self {
        Step { scale: Some(scale), ..self }
    }

    /// Sets the learning rate.
    pub fn learning_rate(self, learning_rate: f64) -> Self {
        Step { learning_rate: Some(learning_rate), ..self }
    }

    /// Sets whether the step was skipped because gradients were not finite.
    pub fn skipped(self, skipped: bool) -> Self {
        Step { skipped, ..self }
    }

    /// Returns the first quantity that is not finite: the loss, or the gradient norm if the step was not skipped.
    pub(super) fn diverged(&self) -> Option<(&'static str, f64)> {
        let norm = self.norm.filter(|_| !self.skipped).map(|norm| ("norm of the gradients", norm));
        [Some(("loss", self.loss)), norm].into_iter().flatten().find(|(_, value)| !value.is_finite())
    }
}

/// A step with its layers and warnings.
///
/// With the feature `serde`, the record is serialised as one flat map. Values that JSON cannot represent as a number
/// are strings: `"NaN"`, `"inf"`, `"-inf"`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Record {
    /// The step.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub step: Step,
    /// Layers of the step, if they were recorded.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub layers: Vec<Layer>,
    /// Warnings about values beyond the limits.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty", serialize_with = "texts"))]
    pub warnings: Vec<Warning>,
}

/// Serialises a finite value as a number, and any other value as a string.
#[cfg(feature = "serde")]
pub(super) fn number<S: serde::Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f64(*value) } else { to.collect_str(value) }
}

#[cfg(feature = "serde")]
pub(super) fn optional<S: serde::Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, to),
        None => to.serialize_none(),
    }
}

#[cfg(feature = "serde")]
fn optional_f32<S: serde::Serializer>(value: &Option<f32>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) if value.is_finite() => to.serialize_f32(*value),
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

#[cfg(feature = "serde")]
fn texts<S: serde::Serializer>(values: &[Warning], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(Warning::to_string))
}
