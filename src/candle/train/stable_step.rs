//! A complete training step. It runs the forward pass and the scaled backward pass. It then checks, unscales and clips
//! the gradients. Finally it updates the parameters or skips the update, and records the step.

use crate::candle::guarded::{self, clip::read};
use crate::candle::optim::{Settings, Stepper};
use crate::error::{Error, Result};
use crate::ops::clip_grad_norm::ClipGradNorm;
use crate::train::{Layer, LossScale, LossScaler, Monitor, Step, Unscaled, Warning};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_nn::Optimizer;

/// Training steps of an optimiser with loss scaling, checked and clipped gradients, and a monitor.
///
/// A step changes no parameter if its loss is not finite or a gradient has a NaN or an infinity. Such steps are counted
/// as skipped, and the scale is lowered ([`LossScaler`]). A skipped step at the lowest scale is an error. A loss that
/// is not finite is also an error if [`Monitor::raise_on_nan`] is set.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, ParamsAdamW, VarMap, linear};
/// use evenkeel::ClipGradNorm;
/// use evenkeel::candle::{init::Seeded, optim::AdamW, train::{StableStep, Stepped}};
/// use evenkeel::train::precision::loss_scale;
///
/// let map = VarMap::new();
/// let model = linear(4, 1, Seeded::new(&map, 42).var_builder(DType::F16, &Device::Cpu))?;
/// let optimizer = AdamW::from_map(&map, ParamsAdamW::default())?;
/// let scale = loss_scale(evenkeel::DType::F16).init(1024.0);
/// let mut step = StableStep::new(optimizer, scale, ClipGradNorm::new(1.0))?;
/// let x = Tensor::ones((2, 4), DType::F16, &Device::Cpu)?;
/// let mut losses = Vec::new();
/// for _ in 0..3 {
///     // The loss is f32, because a scaled loss overflows f16.
///     let stepped = step.run(|| model.forward(&x)?.to_dtype(DType::F32)?.sqr()?.mean_all())?;
///     if let Stepped::Taken { loss, .. } = stepped {
///         losses.push(loss);
///     }
/// }
/// assert!(losses[2] < losses[0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
pub struct StableStep<S> {
    optimizer: Stepper<S>,
    vars: Vec<(String, Var)>,
    scaler: LossScaler,
    clip: ClipGradNorm,
    monitor: Monitor,
    number: u64,
}

/// Outcome of a step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stepped {
    /// The optimiser took the step.
    #[non_exhaustive]
    Taken {
        /// Loss before the step.
        loss: f64,
        /// Norm of all gradients before clipping.
        norm: f64,
        /// Warnings from the monitor.
        warnings: Vec<Warning>,
    },
    /// The step was skipped, and the parameters are unchanged.
    #[non_exhaustive]
    Skipped {
        /// Loss of the step.
        loss: f64,
        /// Error that names the first gradient that is not finite. The error's row is the variable's index in the
        /// optimiser. `None` if the loss itself is not finite.
        why: Option<Error>,
        /// Warnings from the monitor.
        warnings: Vec<Warning>,
    },
}

impl Stepped {
    /// Returns the loss of a taken or skipped step.
    pub fn loss(&self) -> f64 {
        match self {
            Stepped::Taken { loss, .. } | Stepped::Skipped { loss, .. } => *loss,
        }
    }
}

impl<S: Settings> StableStep<S> {
    /// Creates training steps for an optimiser that holds all parameters. The default monitor has no sink; see
    /// [`StableStep::monitor`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a setting of `scale` outside its valid range.
    pub fn new(optimizer: Stepper<S>, scale: LossScale, clip: ClipGradNorm) -> Result<Self> {
        let vars = optimizer.named_vars();
        Ok(StableStep { optimizer, vars, scaler: scale.validate()?, clip, monitor: Monitor::default(), number: 0 })
    }

    /// Sets the monitor.
    pub fn monitor(self, monitor: Monitor) -> Self {
        Self { monitor, ..self }
    }

    /// Sets the scaler, and the number of the next step, to continue a run from a checkpoint.
    pub fn resume(self, number: u64, scaler: LossScaler) -> Self {
        Self { number, scaler, ..self }
    }

    /// Runs one step. `loss` runs the forward pass, and returns the loss as a scalar.
    ///
    /// # Errors
    /// Errors of `loss`, of the gradients and of the optimiser; the parameters are then unchanged. Errors of the
    /// layers' statistics, of the scaler ([`LossScaler::update`]) and of the monitor ([`Monitor::record`]); the
    /// parameters may have changed before such an error. After an error of the monitor, the scale is the scale of the
    /// next step; after any other error, it is unchanged. The next call runs a new step.
    pub fn run(&mut self, loss: impl FnOnce() -> candle_core::Result<Tensor>) -> Result<Stepped> {
        let stepped = self.step(loss);
        if stepped.is_err() {
            self.scaler.update_to(self.scaler.scale())?;
        }
        stepped
    }

    fn step(&mut self, loss: impl FnOnce() -> candle_core::Result<Tensor>) -> Result<Stepped> {
        // The loss is converted to f32 before scaling, because the scaled loss may exceed the range of f16.
        let loss = loss()?.to_dtype(DType::F32)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        let scale = self.scaler.scale();
        let mut grads = None;
        let unscaled = if value.is_finite() {
            let vars: Vec<Var> = self.vars.iter().map(|(_, var)| var.clone()).collect();
            let store = grads.insert(loss.affine(f64::from(scale), 0.0)?.backward()?);
            Some(guarded::unscale(store, &vars, &mut self.scaler, &self.clip)?)
        } else {
            self.scaler.record(false)?;
            None
        };
        let wants_layers = self.monitor.wants_layers(self.number);
        let before = if wants_layers { self.copies()? } else { Vec::new() };
        let taken = self.scaler.step()?;
        if let (true, Some(grads)) = (taken, &grads) {
            self.optimizer.step(grads)?;
        }
        let layers = if wants_layers { self.layers(&before, grads.as_ref())? } else { Vec::new() };
        let updated = self.scaler.update();

        let norm = match &unscaled {
            Some(Unscaled::Ready { norm }) => Some(*norm),
            _ => None,
        };
        let step = Step {
            norm,
            clipped_norm: norm.map(|norm| norm.min(self.clip.max_norm)),
            scale: Some(scale),
            learning_rate: Some(self.optimizer.learning_rate()),
            skipped: !taken,
            ..Step::new(self.number, value)
        };
        self.number = self.number.saturating_add(1);
        let recorded = self.monitor.record(step, layers);
        updated?;
        let warnings = recorded?.warnings;
        Ok(match unscaled {
            Some(Unscaled::Ready { norm }) => Stepped::Taken { loss: value, norm, warnings },
            Some(Unscaled::Skip { why }) => Stepped::Skipped { loss: value, why: Some(why), warnings },
            None => Stepped::Skipped { loss: value, why: None, warnings },
        })
    }

    /// Returns copies of the parameters. The copies share no memory with the parameters.
    fn copies(&self) -> Result<Vec<Tensor>> {
        Ok(self.vars.iter().map(|(_, var)| var.copy()).collect::<candle_core::Result<_>>()?)
    }

    fn layers(&self, before: &[Tensor], grads: Option<&GradStore>) -> Result<Vec<Layer>> {
        const OP: &str = "train";
        let of = |((name, var), before): (&(String, Var), &Tensor)| {
            let layer = read(before, OP, |before| read(var, OP, |after| Layer::new(name).update(before, after)))?;
            match grads.and_then(|grads| grads.get(var)) {
                Some(grad) => read(grad, OP, |grad| layer.gradient(grad)),
                None => Ok(layer),
            }
        };
        self.vars.iter().zip(before).map(of).collect()
    }

    /// Returns the number of the next step. It saturates at `u64::MAX`.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the optimiser.
    pub fn optimizer(&self) -> &Stepper<S> {
        &self.optimizer
    }

    /// Returns a mutable reference to the optimiser, for changes such as a new learning rate.
    pub fn optimizer_mut(&mut self) -> &mut Stepper<S> {
        &mut self.optimizer
    }

    /// Returns the scaler of the loss.
    pub fn scaler(&self) -> &LossScaler {
        &self.scaler
    }

    /// Returns the monitor.
    pub fn watched_by(&self) -> &Monitor {
        &self.monitor
    }
}
