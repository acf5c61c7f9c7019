//! A watch over a run of training: losses, norms and layers, warnings about them, and where all of it is written.

mod histogram;
mod layer;
mod limits;
mod record;
mod sink;
mod summary;
mod warning;

#[cfg(feature = "jsonl")]
mod jsonl;
#[cfg(feature = "tensorboard")]
mod tensorboard;
#[cfg(feature = "tracing")]
mod tracing;

pub use histogram::{Bin, Histogram};
pub use layer::Layer;
pub use limits::Limits;
pub use record::{Record, Step};
pub use sink::Sink;
pub use summary::Summary;
pub use warning::Warning;

#[cfg(feature = "jsonl")]
pub use jsonl::Jsonl;
#[cfg(feature = "tensorboard")]
pub use tensorboard::TensorBoard;
#[cfg(feature = "tracing")]
pub use tracing::Tracing;

use crate::error::{Error, Result};
use crate::simd::in_default;

/// Takes the record of each step, looks at it, and hands it on to its sinks.
///
/// ```
/// use evenkeel::train::{Monitor, Step, Warning};
/// let mut monitor = Monitor::default();
/// monitor.record(Step { norm: Some(2.0), ..Step::new(0, 0.5) }, Vec::new())?;
/// let record = monitor.record(Step { norm: Some(300.0), ..Step::new(1, 20.0) }, Vec::new())?;
/// assert_eq!(record.warnings, [
///     Warning::Norm { norm: 300.0, limit: 100.0 },
///     Warning::LossJump { loss: 20.0, before: 0.5, limit: 10.0 },
/// ]);
/// let error = monitor.record(Step::new(2, f64::NAN), Vec::new()).unwrap_err();
/// assert_eq!(error.to_string(), "train: the loss of step 2 is NaN; resume from an earlier checkpoint");
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
pub struct Monitor {
    limits: Limits,
    layers_every: u64,
    raise_on_nan: bool,
    sinks: Vec<Box<dyn Sink>>,
    summary: Summary,
}

impl Default for Monitor {
    /// The limits' defaults, layers every hundred steps, an error where a loss is not finite, no sinks.
    fn default() -> Self {
        Monitor {
            limits: Limits::default(),
            layers_every: 100,
            raise_on_nan: true,
            sinks: Vec::new(),
            summary: Summary::default(),
        }
    }
}

impl Monitor {
    /// Beyond what there are warnings.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// From one step whose layers are looked at to the next, which takes a pass or two over all parameters; 0 is never.
    pub fn layers_every(self, steps: u64) -> Self {
        Self { layers_every: steps, ..self }
    }

    /// Whether a loss that is not finite is an error, and not only a warning. So is a norm that is not finite of a step
    /// that was not skipped.
    pub fn raise_on_nan(self, raise: bool) -> Self {
        Self { raise_on_nan: raise, ..self }
    }

    /// One more place that records go to.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Whether the layers of this step are asked for.
    pub fn wants_layers(&self, step: u64) -> bool {
        self.layers_every != 0 && step.is_multiple_of(self.layers_every)
    }

    /// Takes a step up: its record has the warnings, and is in every sink.
    ///
    /// # Errors
    /// [`Error::Sink`] where a sink could not be written to; the others have the record. [`Error::Diverged`] where
    /// [`Monitor::raise_on_nan`] says so; the record is in the sinks then too.
    pub fn record(&mut self, step: Step, layers: Vec<Layer>) -> Result<Record> {
        let warnings = in_default(|| self.limits.warnings(&step, &layers, self.summary.last_loss));
        let record = Record { step, layers, warnings };
        in_default(|| self.summary.add(&record));
        let mut failed = None;
        for sink in &mut self.sinks {
            if let Err(source) = sink.record(&record) {
                failed.get_or_insert(Error::Sink { sink: sink.name(), step: step.step, reason: source.to_string() });
            }
        }
        if self.raise_on_nan
            && let Some((what, value)) = in_default(|| step.diverged())
        {
            return Err(Error::Diverged { step: step.step, what, value });
        }
        failed.map_or(Ok(record), Err)
    }

    /// The run so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}
