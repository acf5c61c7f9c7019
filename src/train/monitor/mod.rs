//! Monitoring of a training run. Records contain losses, norms, layers and warnings. Sinks write the records.

mod histogram;
mod layer;
mod limits;
mod record;
mod sink;
mod summary;
mod warning;

#[cfg(any(feature = "jsonl", feature = "tensorboard"))]
mod append;
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

use crate::error::{Error, Result, Source};
use crate::simd::in_default;

/// Monitor of a training run. It checks the values of each step, adds warnings, and writes the record of the step to
/// the sinks.
///
/// ```
/// use evenkeel::train::{Monitor, Step, Warning};
/// let mut monitor = Monitor::default();
/// monitor.record(Step::new(0, 0.5).norm(2.0), Vec::new())?;
/// let record = monitor.record(Step::new(1, 20.0).norm(300.0), Vec::new())?;
/// assert!(matches!(record.warnings[0], Warning::Norm { norm: 300.0, limit: 100.0, .. }));
/// assert!(matches!(record.warnings[1], Warning::LossJump { loss: 20.0, before: 0.5, limit: 10.0, .. }));
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
    /// Returns a monitor with default limits and without sinks. The monitor records layers every hundred steps. It
    /// returns an error for a loss that is not finite.
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
    /// Sets the limits beyond which warnings are added.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the interval between steps whose layers are recorded. With 0, layers are never recorded. Recording takes
    /// one or two passes over all parameters.
    pub fn layers_every(self, steps: u64) -> Self {
        Self { layers_every: steps, ..self }
    }

    /// Sets whether a non-finite loss is an error in addition to a warning. The same applies to a non-finite gradient
    /// norm of a step that was not skipped.
    pub fn raise_on_nan(self, raise: bool) -> Self {
        Self { raise_on_nan: raise, ..self }
    }

    /// Adds a sink that records are written to.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Returns whether the layers of this step should be recorded.
    pub fn wants_layers(&self, step: u64) -> bool {
        self.layers_every != 0 && step.is_multiple_of(self.layers_every)
    }

    /// Records a step: adds warnings to its record, writes the record to every sink, and returns the record.
    ///
    /// # Errors
    /// [`Error::Diverged`] for a non-finite loss or norm if [`Monitor::raise_on_nan`] is set; the sinks get the record
    /// in this case too. Otherwise, [`Error::Sink`] if a write to a sink failed; all other sinks are still written to.
    pub fn record(&mut self, step: Step, layers: Vec<Layer>) -> Result<Record> {
        let warnings = in_default(|| self.limits.warnings(&step, &layers, self.summary.last_loss));
        let record = Record { step, layers, warnings };
        in_default(|| self.summary.add(&record));
        let mut failed = None;
        for sink in &mut self.sinks {
            if let Err(source) = sink.record(&record) {
                let (sink, reason) = (sink.name(), source.to_string());
                let source = Source::new(source);
                failed.get_or_insert(Error::Sink { sink, step: step.step, reason, source });
            }
        }
        if self.raise_on_nan
            && let Some((what, value)) = in_default(|| step.diverged())
        {
            return Err(Error::Diverged { step: step.step, what, value });
        }
        failed.map_or(Ok(record), Err)
    }

    /// Returns the summary of the run so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}
