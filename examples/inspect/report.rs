//! Report on all tensors, in the order in which they are shown.

use evenkeel::checkpoint::{Checkpoint, Finding, Inspected, Level, QUANTILES, Thresholds};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::PathBuf;

/// Contents of the JSON output.
#[derive(Serialize)]
pub struct Report {
    files: Vec<PathBuf>,
    thresholds: Thresholds,
    /// Probabilities of the quantiles in each tensor's statistics.
    quantiles: [f64; 5],
    /// Tensors, the worst first.
    pub tensors: Vec<Entry>,
}

/// Tensor with its findings.
#[derive(Serialize)]
pub struct Entry {
    #[serde(flatten)]
    pub tensor: Inspected,
    pub findings: Vec<Finding>,
}

impl Entry {
    /// Returns the level of the worst finding.
    pub fn level(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.level).max()
    }

    /// Returns the sort key: first the level, then the number of findings, then the largest magnitude.
    fn badness(&self) -> (Option<Level>, usize, f64) {
        let max_abs = self.tensor.stats.as_ref().map_or(f64::NAN, |stats| stats.max_abs);
        (self.level(), self.findings.len(), if max_abs.is_nan() { -1.0 } else { max_abs })
    }
}

impl Report {
    /// Creates the report on all tensors.
    pub fn new(checkpoint: &Checkpoint, inspected: Vec<Inspected>, thresholds: Thresholds) -> Self {
        let mut found: HashMap<String, Vec<Finding>> = HashMap::new();
        for finding in thresholds.findings(&inspected) {
            found.entry(finding.tensor.clone()).or_default().push(finding);
        }
        let entry = |tensor: Inspected| Entry { findings: found.remove(&tensor.name).unwrap_or_default(), tensor };
        let mut tensors: Vec<Entry> = inspected.into_iter().map(entry).collect();
        tensors.sort_by(|a, b| {
            let (a, b) = (a.badness(), b.badness());
            Reverse((a.0, a.1)).cmp(&Reverse((b.0, b.1))).then(b.2.total_cmp(&a.2))
        });
        Report { files: checkpoint.files().to_vec(), thresholds, quantiles: QUANTILES, tensors }
    }

    /// Iterates over all findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.tensors.iter().flat_map(|entry| &entry.findings)
    }
}
