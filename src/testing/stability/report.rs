//! Report of the stability checks.

use candle_core::DType;
use std::fmt;

/// A kind of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Initial parameters, and the output for ordinary input.
    Initialisation,
    /// Output, loss and gradients for extreme input.
    HostileInput,
    /// Gradients of all parameters.
    GradientFlow,
    /// Output and loss in 16 bits. The parameters are those of the f32 module, rounded to 16 bits.
    HalfPrecision,
    /// Several training steps.
    Training,
}

/// A problem that a check found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// The check that found the problem.
    pub check: Check,
    /// Type in which the module was checked.
    pub dtype: DType,
    /// Description of the problem, with values.
    pub what: String,
    /// Suggested remedy.
    pub remedy: &'static str,
}

/// All problems found by [`StabilityTester::check`](super::StabilityTester::check).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Findings in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns whether there are no findings.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns whether a check has a finding.
    pub fn has(&self, check: Check) -> bool {
        self.findings.iter().any(|finding| finding.check == check)
    }

    /// Asserts that there are no findings.
    ///
    /// # Panics
    /// Panics with the report as message if there are findings.
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
            return f.write_str("no findings");
        }
        write!(f, "{} findings", self.findings.len())?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n- {finding}"))
    }
}
