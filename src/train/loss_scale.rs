//! Settings of loss scaling, which prevents small gradients from vanishing in f16.

use crate::error::{Error, Result};

const OP: &str = "loss_scale";

/// Settings of loss scaling: the initial scale, and how it grows and shrinks. [`LossScale::validate`] creates a
/// [`LossScaler`](super::LossScaler) with these settings.
///
/// With the feature `serde`, the settings can be serialised and deserialised, with fields by name. Missing fields get
/// their defaults, and unknown fields are rejected.
///
/// ```
/// use evenkeel::train::LossScale;
/// let usual = LossScale::dynamic().init(1024.0).validate()?;
/// let fixed = LossScale::constant(128.0).validate()?;
/// assert_eq!((usual.scale(), fixed.scale()), (1024.0, 128.0));
///
/// let error = LossScale::dynamic().growth(0.5).validate().unwrap_err();
/// assert_eq!(error.to_string(), "loss_scale: growth is 0.5; it must be finite and 1 or more");
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct LossScale {
    /// Scale of the first step; 65536 by default. The default exceeds the range of f16, so losses must be scaled in
    /// f32.
    pub init: f32,
    /// Factor that the scale is multiplied by after [`LossScale::interval`] consecutive steps with finite gradients; 2
    /// by default. The scale does not grow beyond the range of f32. With a factor of 1, the scale never grows.
    pub growth: f64,
    /// Factor that the scale is multiplied by after a step with non-finite gradients; 0.5 by default. With a factor of
    /// 1, the scale never shrinks.
    pub backoff: f64,
    /// Number of consecutive steps with finite gradients after which the scale grows; 2000 by default.
    pub interval: u32,
    /// Minimum of the scale; 1 by default.
    ///
    /// If the gradients of a step are not finite at this scale, [`LossScaler::update`](super::LossScaler::update)
    /// returns an error, unless [`LossScale::backoff`] is 1. The error reveals a model whose gradients are NaN at every
    /// scale. PyTorch's scaler has no minimum, and its scale shrinks to 0 silently. To come closest to PyTorch, set a
    /// power of two near [`f32::MIN_POSITIVE`]. A minimum of 0 is not possible, because the scale must have a finite
    /// reciprocal.
    pub min_scale: f32,
}

impl LossScale {
    /// Returns PyTorch's defaults: a scale of 65536, which is doubled after 2000 consecutive steps with finite
    /// gradients, and halved after a step with non-finite gradients. The minimum of the scale is 1.
    pub fn dynamic() -> Self {
        LossScale { init: 65536.0, growth: 2.0, backoff: 0.5, interval: 2000, min_scale: 1.0 }
    }

    /// Returns settings for a scale that never changes. Steps with non-finite gradients are still skipped.
    pub fn constant(scale: f32) -> Self {
        LossScale { init: scale, growth: 1.0, backoff: 1.0, min_scale: scale, ..Self::dynamic() }
    }

    /// Sets [`LossScale::init`].
    pub fn init(self, init: f32) -> Self {
        Self { init, ..self }
    }

    /// Sets [`LossScale::growth`].
    pub fn growth(self, growth: f64) -> Self {
        Self { growth, ..self }
    }

    /// Sets [`LossScale::backoff`].
    pub fn backoff(self, backoff: f64) -> Self {
        Self { backoff, ..self }
    }

    /// Sets [`LossScale::interval`].
    pub fn interval(self, interval: u32) -> Self {
        Self { interval, ..self }
    }

    /// Sets [`LossScale::min_scale`].
    pub fn min_scale(self, min_scale: f32) -> Self {
        Self { min_scale, ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        check_scale("init", self.init)?;
        check_scale("min_scale", self.min_scale)?;
        if self.min_scale > self.init {
            return Err(Error::invalid(OP, "min_scale", self.min_scale, format!("at most init = {}", self.init)));
        }
        if !(self.growth >= 1.0 && self.growth.is_finite()) {
            return Err(Error::invalid(OP, "growth", self.growth, "finite and 1 or more"));
        }
        if !(self.backoff > 0.0 && self.backoff <= 1.0) {
            return Err(Error::invalid(OP, "backoff", self.backoff, "in (0, 1]"));
        }
        if self.interval == 0 {
            return Err(Error::invalid(OP, "interval", 0, "1 or more"));
        }
        Ok(())
    }
}

impl Default for LossScale {
    fn default() -> Self {
        Self::dynamic()
    }
}

/// Checks that a scale is finite and at least the smallest normal f32. The reciprocal of a smaller scale can exceed
/// f32.
pub(super) fn check_scale(argument: &'static str, scale: f32) -> Result<()> {
    if scale.is_finite() && scale >= f32::MIN_POSITIVE {
        return Ok(());
    }
    Err(Error::invalid(OP, argument, scale, format!("finite and at least {:e}", f32::MIN_POSITIVE)))
}
