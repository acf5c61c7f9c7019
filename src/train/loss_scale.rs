//! How a loss is scaled before gradients are taken, so that small ones do not vanish in f16.

use crate::error::{Error, Result};

const OP: &str = "loss_scale";

/// How large the scale is, and how it goes up and down. [`LossScale::validate`] makes a [`LossScaler`](super::LossScaler)
/// of it.
///
/// With the feature `serde` it is read and written with its fields by name; those that are missing have their defaults,
/// those that are unknown are refused.
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
    /// The scale of the first step; 65536 by default, which is beyond f16: a loss is scaled in f32.
    pub init: f32,
    /// What the scale is multiplied with after [`LossScale::interval`] finite steps in a row; 2 by default. It is not
    /// where the product is beyond f32. 1 is a scale that never grows.
    pub growth: f64,
    /// What the scale is multiplied with after a step that was not finite; 0.5 by default. 1 is a scale that never
    /// shrinks.
    pub backoff: f64,
    /// See [`LossScale::growth`]; 2000 by default.
    pub interval: u32,
    /// Where the scale stops shrinking; 1 by default. A step that is not finite even there is an error, by which a model
    /// is known whose gradients are NaN for good: PyTorch's scaler goes on to 0 without a word. A power of two beside
    /// [`f32::MIN_POSITIVE`] is as near to PyTorch's as a scale with a finite reciprocal can be.
    pub min_scale: f32,
}

impl LossScale {
    /// PyTorch's defaults: 65536, twice as much after 2000 finite steps, half after one that is not; and no less than 1.
    pub fn dynamic() -> Self {
        LossScale { init: 65536.0, growth: 2.0, backoff: 0.5, interval: 2000, min_scale: 1.0 }
    }

    /// A scale that never changes. Steps that are not finite are still left out.
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
            return Err(Error::invalid(OP, "min_scale", self.min_scale, format!("at most init, {}", self.init)));
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

/// Of the numbers below this limit the reciprocal is beyond f32.
pub(super) fn check_scale(argument: &'static str, scale: f32) -> Result<()> {
    if scale.is_finite() && scale >= f32::MIN_POSITIVE {
        return Ok(());
    }
    Err(Error::invalid(OP, argument, scale, format!("finite and at least {:e}", f32::MIN_POSITIVE)))
}
