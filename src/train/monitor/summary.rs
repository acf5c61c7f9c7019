//! A run in a few numbers.

use super::record::Record;
use std::fmt;

/// What the steps came to.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Steps.
    pub steps: u64,
    /// Those that left the parameters as they were.
    pub skipped: u64,
    /// The first loss that was finite.
    pub first_loss: Option<f64>,
    /// The last one.
    pub last_loss: Option<f64>,
    /// The least one.
    pub least_loss: Option<f64>,
    /// The largest norm of gradients before clipping, of those that were finite.
    pub largest_norm: Option<f64>,
    /// The largest after clipping.
    pub largest_clipped_norm: Option<f64>,
    /// Losses that were not finite.
    pub losses_not_finite: u64,
    /// Warnings.
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
            write!(f, "; loss {first:.4} to {last:.4}, at least {least:.4}")?;
        }
        if self.losses_not_finite > 0 {
            write!(f, "; {} losses not finite", self.losses_not_finite)?;
        }
        if let Some(norm) = self.largest_norm {
            write!(f, "; gradients' norm at most {norm:.4}")?;
        }
        if let Some(norm) = self.largest_clipped_norm {
            write!(f, ", clipped {norm:.4}")?;
        }
        write!(f, "; {} warnings", self.warnings)
    }
}
