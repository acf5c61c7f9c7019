//! Limits beyond which the monitor adds warnings to a step.

use super::layer::Layer;
use super::record::Step;
use super::warning::Warning;

/// Limits for the values of a step. A value above its limit leads to a warning. Infinity disables a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Limits {
    /// Limit for the norm of the gradients before clipping; 100 by default.
    pub norm: f64,
    /// Limit for the ratio of the loss to the previous finite loss; 10 by default. The limit does not apply if the
    /// previous finite loss is 0 or less.
    pub loss_jump: f64,
    /// Limit for the norm of a parameter's change, divided by the norm of the parameter before the step; 0.1 by
    /// default.
    pub update_ratio: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { norm: 100.0, loss_jump: 10.0, update_ratio: 0.1 }
    }
}

impl Limits {
    /// Sets [`Limits::norm`].
    pub fn norm(self, norm: f64) -> Self {
        Self { norm, ..self }
    }

    /// Sets [`Limits::loss_jump`].
    pub fn loss_jump(self, loss_jump: f64) -> Self {
        Self { loss_jump, ..self }
    }

    /// Sets [`Limits::update_ratio`].
    pub fn update_ratio(self, update_ratio: f64) -> Self {
        Self { update_ratio, ..self }
    }

    /// Returns the warnings of a step. `before` is the last finite loss before this step.
    pub(super) fn warnings(&self, step: &Step, layers: &[Layer], before: Option<f64>) -> Vec<Warning> {
        let Step { loss, norm, .. } = *step;
        let mut warnings = Vec::new();
        if !loss.is_finite() {
            warnings.push(Warning::LossNotFinite { loss });
        }
        match norm {
            Some(norm) if !norm.is_finite() => warnings.push(Warning::NormNotFinite { norm }),
            Some(norm) if norm > self.norm => warnings.push(Warning::Norm { norm, limit: self.norm }),
            _ => (),
        }
        if let Some(before) =
            before.filter(|&before| before > 0.0 && loss.is_finite() && loss / before > self.loss_jump)
        {
            warnings.push(Warning::LossJump { loss, before, limit: self.loss_jump });
        }
        for layer in layers {
            let name = || layer.name.clone();
            match layer.not_finite() {
                0 => (),
                count => warnings.push(Warning::LayerNotFinite { layer: name(), count }),
            }
            if let Some(ratio) = layer.update_ratio.filter(|&ratio| ratio > self.update_ratio) {
                warnings.push(Warning::Update { layer: name(), ratio, limit: self.update_ratio });
            }
        }
        warnings
    }
}
