//! The state machine of loss scaling, which follows PyTorch's `GradScaler`.

use super::loss_scale::{LossScale, check_scale};
use crate::error::{Error, Result};
use crate::simd::in_default;
use std::fmt;

const OP: &str = "loss_scaler";

/// Stage of a step.
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

/// Loss scaler. It decides which steps are taken, and keeps the scale near the largest value for which gradients are
/// finite.
///
/// A step has three stages, and each stage has its calls:
/// 1. READY: multiply the loss by [`LossScaler::scale`] and run the backward pass. Then unscale the gradients, check
///    whether they are finite, and pass the answer to [`LossScaler::record`].
/// 2. UNSCALED: [`LossScaler::step`] returns whether the optimiser may step.
/// 3. STEPPED: [`LossScaler::update`] computes the scale of the next step.
///
/// A call in the wrong stage returns an error and changes nothing. One scaler serves one loss. If several optimisers
/// use gradients of this loss, either all of them step or none.
///
/// The scales have the same bits as in `torch.amp.GradScaler`. The scale is an f32. It is multiplied by a factor in f64
/// and rounded, and it grows only to finite values. Two things differ from `GradScaler`. The scale has a lower limit
/// ([`LossScale::min_scale`]). Gradients must be unscaled before a step, whereas PyTorch unscales them in the step if
/// necessary.
///
/// ```
/// use evenkeel::train::LossScale;
/// let mut scaler = LossScale::dynamic().interval(2).validate()?;
/// for finite in [false, true, true] {
///     scaler.record(finite)?;
///     assert_eq!(scaler.step()?, finite);
///     scaler.update()?;
/// }
/// // The first step halves the scale, and the next two double it.
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

/// Complete state of a [`LossScaler`] between two steps, which can be saved and restored exactly.
///
/// With the feature `serde`, the state can be serialised and deserialised, with its fields by name.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct LossScalerState {
    /// Settings of the scaler.
    pub settings: LossScale,
    /// The current scale.
    pub scale: f32,
    /// Number of consecutive steps with finite gradients that count towards the next growth of the scale.
    pub tracker: u32,
    /// Number of steps taken. It saturates at `u64::MAX`.
    pub taken: u64,
    /// Number of steps skipped. It saturates at `u64::MAX`.
    pub skipped: u64,
}

impl LossScale {
    /// Checks the settings, and creates a scaler with them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an invalid setting.
    pub fn validate(self) -> Result<LossScaler> {
        let state = LossScalerState { settings: self, scale: self.init, tracker: 0, taken: 0, skipped: 0 };
        LossScaler::restore(state)
    }
}

impl LossScaler {
    /// Creates a scaler that continues from a saved state.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an invalid state.
    pub fn restore(state: LossScalerState) -> Result<Self> {
        in_default(|| state.settings.check().and_then(|()| check_scale("scale", state.scale)))?;
        if state.tracker >= state.settings.interval {
            let expected = format!("below interval = {}", state.settings.interval);
            return Err(Error::invalid(OP, "tracker", state.tracker, expected));
        }
        Ok(LossScaler { state, stage: Stage::Ready, finite: true })
    }

    /// Returns the state. The state does not include the record of the current, unfinished step.
    pub fn state(&self) -> LossScalerState {
        self.state
    }

    /// Returns the factor for the loss. Compute the loss in f32, because the product may overflow in f16.
    pub fn scale(&self) -> f32 {
        self.state.scale
    }

    /// Returns the factor for gradients: the reciprocal of the scale, rounded to f32.
    pub fn inverse(&self) -> f32 {
        in_default(|| (1.0 / f64::from(self.state.scale)) as f32)
    }

    /// Returns the number of steps taken.
    pub fn taken(&self) -> u64 {
        self.state.taken
    }

    /// Returns the number of steps skipped.
    pub fn skipped(&self) -> u64 {
        self.state.skipped
    }

    /// Records whether all gradients of this step are finite. The stage becomes UNSCALED.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the stage is READY.
    pub fn record(&mut self, finite: bool) -> Result<()> {
        self.check_ready()?;
        (self.stage, self.finite) = (Stage::Unscaled, finite);
        Ok(())
    }

    /// Returns whether the optimiser may step. The stage becomes STEPPED.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the stage is UNSCALED.
    pub fn step(&mut self) -> Result<bool> {
        self.expect(Stage::Unscaled, "to step")?;
        self.stage = Stage::Stepped;
        Ok(self.finite)
    }

    /// Ends the step, and computes the scale of the next one. The stage becomes READY. As in PyTorch, this method may
    /// also be called in the stage UNSCALED. In this case, the step counts as neither taken nor skipped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the stage is READY, or if the gradients are not finite although the scale is
    /// already [`LossScale::min_scale`]. After an error the scaler is unchanged.
    pub fn update(&mut self) -> Result<()> {
        if self.stage == Stage::Ready {
            return self.expect(Stage::Stepped, "to update");
        }
        let LossScalerState { settings, scale, tracker, .. } = self.state;
        let times = |factor: f64| in_default(|| (f64::from(scale) * factor) as f32);
        if !self.finite {
            if settings.backoff < 1.0 && scale <= settings.min_scale {
                let expected =
                    format!("above min_scale, {}, to be reduced after non-finite gradients", settings.min_scale);
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

    /// Sets the scale, and ends the step in any stage. The stage becomes READY.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a scale that is not positive and finite, or whose reciprocal exceeds f32.
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
