//! Forward, scaled backward, unscale, check, clip, step or skip, and a record of it.

use crate::candle::guarded::{self, clip::read};
use crate::candle::optim::{Settings, Stepper};
use crate::error::{Error, Result};
use crate::ops::clip_grad_norm::ClipGradNorm;
use crate::train::{Layer, LossScale, LossScaler, Monitor, Step, Unscaled, Warning};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_nn::Optimizer;

/// Steps of an optimiser, with its loss scaled, its gradients checked and clipped, and a monitor that looks on.
///
/// A step that is not sound changes no parameter: neither one whose loss is not finite, nor one with a NaN or an infinity in
/// a gradient. Such steps are counted, and the scale goes down ([`LossScaler`]); one that is not sound even at the lowest
/// scale is an error, and so is a loss that is not finite, if the monitor says so.
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
///     // In f32: a scaled loss is beyond f16.
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

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stepped {
    /// The parameters have changed.
    Taken {
        /// The loss before that.
        loss: f64,
        /// The norm of all gradients before they were clipped.
        norm: f64,
        /// What the monitor says.
        warnings: Vec<Warning>,
    },
    /// They are as they were.
    Skipped {
        /// The loss.
        loss: f64,
        /// The first gradient that is not finite, by the place of its variable among the optimiser's; none where the loss
        /// itself is not.
        why: Option<Error>,
        /// What the monitor says.
        warnings: Vec<Warning>,
    },
}

impl Stepped {
    /// The loss, of either.
    pub fn loss(&self) -> f64 {
        match self {
            Stepped::Taken { loss, .. } | Stepped::Skipped { loss, .. } => *loss,
        }
    }
}

impl<S: Settings> StableStep<S> {
    /// Of an optimiser that is in charge of all parameters; without a sink ([`StableStep::monitor`]).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a scale outside its meaning.
    pub fn new(optimizer: Stepper<S>, scale: LossScale, clip: ClipGradNorm) -> Result<Self> {
        let vars = optimizer.named_vars();
        Ok(StableStep { optimizer, vars, scaler: scale.validate()?, clip, monitor: Monitor::default(), number: 0 })
    }

    /// Who looks on.
    pub fn monitor(self, monitor: Monitor) -> Self {
        Self { monitor, ..self }
    }

    /// Goes on from a step of this number, with this scaler.
    pub fn resume(self, number: u64, scaler: LossScaler) -> Self {
        Self { number, scaler, ..self }
    }

    /// One step by the gradients of this loss, a number.
    ///
    /// # Errors
    /// The loss's own; those of the optimiser, the scaler ([`LossScaler::update`]) and the monitor ([`Monitor::record`]). The
    /// parameters are then as they were, but after an error of the monitor, which comes last.
    pub fn run(&mut self, loss: impl FnOnce() -> candle_core::Result<Tensor>) -> Result<Stepped> {
        // Wide enough for its scale.
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

    /// The parameters, by themselves.
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

    /// The number of the next step; it stays at `u64::MAX` once it is there.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &Stepper<S> {
        &self.optimizer
    }

    /// The optimiser, to change its learning rate.
    pub fn optimizer_mut(&mut self) -> &mut Stepper<S> {
        &mut self.optimizer
    }

    /// What the loss is scaled with.
    pub fn scaler(&self) -> &LossScaler {
        &self.scaler
    }

    /// Who looks on.
    pub fn watched_by(&self) -> &Monitor {
        &self.monitor
    }
}
