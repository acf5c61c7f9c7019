//! What is known of a step.

use super::layer::Layer;
use super::warning::Warning;

/// A step of training, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Step {
    /// Its number.
    pub step: u64,
    /// Its loss, not scaled.
    #[cfg_attr(feature = "serde", serde(serialize_with = "number"))]
    pub loss: f64,
    /// The norm of its gradients, not scaled, before they were clipped.
    #[cfg_attr(feature = "serde", serde(serialize_with = "optional", skip_serializing_if = "Option::is_none"))]
    pub norm: Option<f64>,
    /// Their norm after that.
    #[cfg_attr(feature = "serde", serde(serialize_with = "optional", skip_serializing_if = "Option::is_none"))]
    pub clipped_norm: Option<f64>,
    /// What the loss was scaled with.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub scale: Option<f32>,
    /// The learning rate.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub learning_rate: Option<f64>,
    /// Whether the parameters were left as they were, for gradients that were not finite.
    pub skipped: bool,
}

impl Step {
    /// One of which only the loss is known.
    pub fn new(step: u64, loss: f64) -> Self {
        Step { step, loss, norm: None, clipped_norm: None, scale: None, learning_rate: None, skipped: false }
    }

    /// What is not finite: the loss, or the norm of gradients that were not skipped.
    pub(super) fn diverged(&self) -> Option<(&'static str, f64)> {
        let norm = self.norm.filter(|_| !self.skipped).map(|norm| ("norm of the gradients", norm));
        [Some(("loss", self.loss)), norm].into_iter().flatten().find(|(_, value)| !value.is_finite())
    }
}

/// A step, with what was found in it.
///
/// With the feature `serde` it is written as one flat map. What JSON has no number for is a string: `"NaN"`, `"inf"`,
/// `"-inf"`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Record {
    /// The step.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub step: Step,
    /// Its layers, in steps that they are looked at.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub layers: Vec<Layer>,
    /// What is beyond the limits.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty", serialize_with = "texts"))]
    pub warnings: Vec<Warning>,
}

/// As a number where it is one, else in words.
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
fn texts<S: serde::Serializer>(values: &[Warning], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(Warning::to_string))
}
