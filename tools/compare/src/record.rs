//! Files of a run, in the format that this program and `peers.py` write.

use crate::exact::Errors;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Records that one process has written, with facts about its run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    /// Name of the instruction set that the contenders were limited to.
    pub level: String,
    /// Facts about the machine and the software, by name.
    pub facts: BTreeMap<String, String>,
    pub records: Vec<Record>,
}

/// A contender's result on one op, type and shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub op: String,
    pub dtype: String,
    pub shape: String,
    pub contender: String,
    /// Name of the variant of the contender's function.
    pub form: String,
    pub threads: usize,
    /// Nanoseconds per element; `None` if the contender failed.
    pub times: Option<Times>,
    #[serde(default)]
    pub errors: Option<Errors>,
    /// File with the first rows of the result, in little endian, for the computation of errors.
    #[serde(default)]
    pub result: Option<String>,
    /// Reason why there are no times.
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Times {
    pub cpu_min: f64,
    pub cpu_median: f64,
    pub wall_min: f64,
    pub wall_median: f64,
}

impl Times {
    /// Smallest plausible ratio of CPU time to wall time. The CPU clock of some virtual machines lags behind. A call
    /// then seems to have used less time than it did.
    const PLAUSIBLE: f64 = 0.75;

    /// Returns the minimum and the median of these times per call, in nanoseconds per element. If the smallest CPU time
    /// is not plausible, the smallest wall time replaces it.
    pub fn of(calls: &[crate::clock::Time], elements: usize) -> Option<Self> {
        let sorted = |part: fn(&crate::clock::Time) -> f64| {
            let mut all: Vec<f64> = calls.iter().map(|call| part(call) / elements as f64).collect();
            all.sort_by(f64::total_cmp);
            Some((*all.first()?, all[all.len() / 2]))
        };
        let (cpu_min, cpu_median) = sorted(|call| call.cpu)?;
        let (wall_min, wall_median) = sorted(|call| call.wall)?;
        let cpu_min = if cpu_min < Self::PLAUSIBLE * wall_min { wall_min } else { cpu_min };
        Some(Times { cpu_min, cpu_median, wall_min, wall_median })
    }
}

impl Run {
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not the JSON of a comparison run", path.display()))
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Record { op, dtype, shape, contender, form, .. } = self;
        write!(f, "{op:22} {dtype:5} {shape:12} {contender:12} {form:16}")?;
        match (&self.times, &self.note) {
            (Some(times), _) => write!(f, " {:8.3} ns, median {:8.3}", times.cpu_min, times.cpu_median)?,
            (None, note) => write!(f, " {}", note.as_deref().unwrap_or("not timed"))?,
        }
        if let Some(errors) = &self.errors {
            let ulps = |error: Option<f64>| error.map_or("not a number".into(), |ulps| format!("{ulps:.3}"));
            write!(f, "; error {} ULP, median {}", ulps(errors.worst), ulps(errors.median))?;
            if let Some(off) = errors.row_sum {
                write!(f, "; row sums off by {off:.1e}")?;
            }
        }
        Ok(())
    }
}
