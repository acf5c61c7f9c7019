//! What was found in a module.

use candle_core::DType;
use std::fmt;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// How its parameters begin, and what they make of ordinary input.
    Initialisation,
    /// Input at the ends of what a module may be given.
    HostileInput,
    /// Whether every parameter has a gradient.
    GradientFlow,
    /// The same parameters in 16 bits.
    HalfPrecision,
    /// Several steps.
    Training,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// In which type.
    pub dtype: DType,
    /// What was found, in words with the values.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// All that was found; made by [`StabilityTester::check`](super::StabilityTester::check).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether a check found something.
    pub fn has(&self, check: Check) -> bool {
        self.findings.iter().any(|finding| finding.check == check)
    }

    /// For tests: nothing was found.
    ///
    /// # Panics
    /// With the report where something was.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }

    pub(super) fn add(&mut self, check: Check, dtype: DType, remedy: &'static str, what: impl fmt::Display) {
        self.findings.push(Finding { check, dtype, what: what.to_string(), remedy });
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::Initialisation => "initialisation",
            Check::HostileInput => "hostile input",
            Check::GradientFlow => "gradient flow",
            Check::HalfPrecision => "half precision",
            Check::Training => "training",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}; {}", self.check, self.dtype.as_str(), self.what, self.remedy)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("nothing was found");
        }
        write!(f, "{} findings", self.findings.len())?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n- {finding}"))
    }
}
