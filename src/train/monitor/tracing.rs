//! Training records as `tracing` events.

use super::record::Record;
use super::sink::Sink;
use std::io;

/// Sink that emits an event of level DEBUG for each record, and an event of level WARN for each warning.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is created by its name")]
pub struct Tracing;

impl Sink for Tracing {
    fn name(&self) -> String {
        "tracing".into()
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        let step = &record.step;
        let (norm, scale) = (step.norm.unwrap_or(f64::NAN), step.scale.unwrap_or(1.0));
        ::tracing::debug!(step = step.step, loss = step.loss, norm, scale, skipped = step.skipped, "step");
        for warning in &record.warnings {
            ::tracing::warn!(step = step.step, "{warning}");
        }
        Ok(())
    }
}
