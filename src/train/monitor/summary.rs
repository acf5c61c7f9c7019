//! Summary of a training run.

use super::record::Record;
use std::fmt;

/// Totals and extremes of all steps of a run.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Number of steps.
    pub steps: u64,
    /// Number of skipped steps.
    pub skipped: u64,
    /// First finite loss.
    pub first_loss: Option<f64>,
    /// Last finite loss.
    pub last_loss: Option<f64>,
    /// Smallest finite loss.
    pub least_loss: Option<f64>,
    /// Largest finite gradient norm before clipping.
    pub largest_norm: Option<f64>,
    /// Largest finite gradient norm after clipping.
    pub largest_clipped_norm: Option<f64>,
    /// Number of non-finite losses.
    pub losses_not_finite: u64,
    /// Number of warnings.
    pub warnings: u64,
}

impl Summary {
    pub(super) fn add(&mut self, record: &Record) {
        let step = &record.step;
        self.steps += 1;
        self.skipped += u64::from(step.skipped);
        self.warnings += record.warnings.len() as u64;
        if step.loss.is_finite() {
            self.first_loss.get_or_insert(step.loss);
            self.last_loss = Some(step.loss);
            self.least_loss = Some(self.least_loss.map_or(step.loss, |least| least.min(step.loss)));
        } else {
            self.losses_not_finite += 1;
        }
        for (largest, norm) in
            [(&mut self.largest_norm, step.norm), (&mut self.largest_clipped_norm, step.clipped_norm)]
        {
            if let Some(norm) = norm.filter(|norm| norm.is_finite()) {
                *largest = Some(largest.map_or(norm, |largest| largest.max(norm)));
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps, {} skipped", self.steps, self.skipped)?;
        if let (Some(first), Some(last), Some(least)) = (self.first_loss, self.last_loss, self.least_loss) {
            write!(f, "; loss {first:.4} at first, {last:.4} at last, minimum {least:.4}")?;
        }
        if self.losses_not_finite > 0 {
            write!(f, "; losses that were not finite: {}", self.losses_not_finite)?;
        }
        if let Some(norm) = self.largest_norm {
            write!(f, "; largest gradient norm {norm:.4}")?;
        }
        if let Some(norm) = self.largest_clipped_norm {
            write!(f, ", after clipping {norm:.4}")?;
        }
        write!(f, "; {} warnings", self.warnings)
    }
}
