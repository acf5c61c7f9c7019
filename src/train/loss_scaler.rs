//! The state machine of loss scaling, step by step that of PyTorch's `GradScaler`.

use super::loss_scale::{LossScale, check_scale};
use crate::error::{Error, Result};
use crate::simd::in_default;
use std::fmt;

const OP: &str = "loss_scaler";

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ready,
    Unscaled,
    Stepped,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Ready => "READY",
            Stage::Unscaled => "UNSCALED",
            Stage::Stepped => "STEPPED",
        })
    }
}

/// Scales losses, decides which steps are taken, and finds the largest scale that goes well.
///
/// A step has three stages, and each call its place: multiply the loss with [`LossScaler::scale`] and go backward; while
/// READY, [`LossScaler::record`] whether the gradients are finite, and unscale them; while UNSCALED,
/// [`LossScaler::step`] says whether the optimiser is to step; then [`LossScaler::update`] makes the next scale. One out
/// of turn is an error and changes nothing. One scaler serves one loss: where several optimisers share its gradients, all
/// of them step or none.
///
/// Numbers are those of `torch.amp.GradScaler`, bit by bit: the scale is an f32, multiplied in f64 and rounded, and grows
/// only to what is finite. Two things differ: a scale has a lower limit ([`LossScale::min_scale`]), and gradients have to
/// be unscaled before a step, which PyTorch does for those who forget.
///
/// ```
/// use evenkeel::train::LossScale;
/// let mut scaler = LossScale::dynamic().interval(2).validate()?;
/// for finite in [false, true, true] {
///     scaler.record(finite)?;
///     assert_eq!(scaler.step()?, finite);
///     scaler.update()?;
/// }
/// // Halved by the first step, doubled by the two that followed.
/// assert_eq!((scaler.scale(), scaler.taken(), scaler.skipped()), (65536.0, 2, 1));
///
/// let error = scaler.step().unwrap_err();
/// assert_eq!(error.to_string(), "loss_scaler: stage is READY; it must be UNSCALED to step");
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LossScaler {
    state: LossScalerState,
    stage: Stage,
    finite: bool,
}

/// All that a [`LossScaler`] is between two steps, to be saved and restored exactly.
///
/// With the feature `serde` it is read and written with its fields by name.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct LossScalerState {
    /// How the scale goes up and down.
    pub settings: LossScale,
    /// The scale.
    pub scale: f32,
    /// How many finite steps there were since the scale last changed, or was to grow.
    pub tracker: u32,
    /// How many steps were taken. It stays at `u64::MAX` once it is there.
    pub taken: u64,
    /// How many steps were left out. It stays at `u64::MAX` once it is there.
    pub skipped: u64,
}

impl LossScale {
    /// A scaler with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], of a setting that is outside its meaning.
    pub fn validate(self) -> Result<LossScaler> {
        let state = LossScalerState { settings: self, scale: self.init, tracker: 0, taken: 0, skipped: 0 };
        LossScaler::restore(state)
    }
}

impl LossScaler {
    /// A scaler that goes on from a state.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] of a state that no scaler has.
    pub fn restore(state: LossScalerState) -> Result<Self> {
        in_default(|| state.settings.check().and_then(|()| check_scale("scale", state.scale)))?;
        if state.tracker >= state.settings.interval {
            let expected = format!("below interval, {}", state.settings.interval);
            return Err(Error::invalid(OP, "tracker", state.tracker, expected));
        }
        Ok(LossScaler { state, stage: Stage::Ready, finite: true })
    }

    /// What the scaler is. What a step that has begun has found is no part of it.
    pub fn state(&self) -> LossScalerState {
        self.state
    }

    /// What a loss is to be multiplied with. In f16 that may overflow: a loss is an f32.
    pub fn scale(&self) -> f32 {
        self.state.scale
    }

    /// What gradients are to be multiplied with: the reciprocal of the scale, rounded to f32.
    pub fn inverse(&self) -> f32 {
        in_default(|| (1.0 / f64::from(self.state.scale)) as f32)
    }

    /// How many steps were taken.
    pub fn taken(&self) -> u64 {
        self.state.taken
    }

    /// How many steps were left out.
    pub fn skipped(&self) -> u64 {
        self.state.skipped
    }

    /// Takes note of whether all gradients of this step are finite: it is then UNSCALED.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the step is READY.
    pub fn record(&mut self, finite: bool) -> Result<()> {
        self.check_ready()?;
        (self.stage, self.finite) = (Stage::Unscaled, finite);
        Ok(())
    }

    /// Whether the optimiser is to step: it is then STEPPED.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the step is UNSCALED.
    pub fn step(&mut self) -> Result<bool> {
        self.expect(Stage::Unscaled, "to step")?;
        self.stage = Stage::Stepped;
        Ok(self.finite)
    }

    /// Makes the next scale: the next step is READY. As PyTorch's, it also ends a step that was only unscaled.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] while the step is READY; and where the gradients are not finite and the scale is
    /// [`LossScale::min_scale`] already: the scaler is then as it was.
    pub fn update(&mut self) -> Result<()> {
        if self.stage == Stage::Ready {
            return self.expect(Stage::Stepped, "to update");
        }
        let LossScalerState { settings, scale, tracker, .. } = self.state;
        let times = |factor: f64| in_default(|| (f64::from(scale) * factor) as f32);
        if !self.finite {
            if settings.backoff < 1.0 && scale <= settings.min_scale {
                let expected =
                    format!("above min_scale, {}, to be brought down: gradients are not finite", settings.min_scale);
                return Err(Error::invalid(OP, "scale", scale, expected));
            }
            self.state.scale = times(settings.backoff).max(settings.min_scale.min(scale));
            self.state.tracker = 0;
        } else if tracker + 1 == settings.interval {
            let grown = times(settings.growth);
            self.state.scale = if grown.is_finite() { grown } else { scale };
            self.state.tracker = 0;
        } else {
            self.state.tracker = tracker + 1;
        }
        let steps = if self.finite { &mut self.state.taken } else { &mut self.state.skipped };
        *steps = steps.saturating_add(u64::from(self.stage == Stage::Stepped));
        self.stage = Stage::Ready;
        Ok(())
    }

    /// Sets the scale, whatever the step came to: the next one is READY.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] of a scale that is not positive and finite, or has no reciprocal in f32.
    pub fn update_to(&mut self, scale: f32) -> Result<()> {
        in_default(|| check_scale("scale", scale))?;
        self.state.scale = scale;
        self.stage = Stage::Ready;
        Ok(())
    }

    pub(crate) fn check_ready(&self) -> Result<()> {
        self.expect(Stage::Ready, "to unscale")
    }

    fn expect(&self, stage: Stage, to: &str) -> Result<()> {
        if self.stage == stage {
            return Ok(());
        }
        Err(Error::invalid(OP, "stage", self.stage, format!("{stage} {to}")))
    }
}
