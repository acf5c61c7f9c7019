//! Versions of the library and of the references.

use gmp_mpfr_sys::mpfr;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Versions that a result depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the library.
    pub evenkeel: String,
    /// Last commit that changed the library, or "unknown".
    pub commit: String,
    /// Hash of the git tree of this program's sources.
    pub program: String,
    /// Version of CORE-MATH's crate.
    pub core_math: String,
    /// Version of MPFR.
    pub mpfr: String,
}

impl Provenance {
    /// Returns the versions that this program was built with.
    pub fn of_this_program() -> Self {
        Provenance {
            evenkeel: env!("EXHAUSTIVE_EVENKEEL").into(),
            commit: env!("EXHAUSTIVE_COMMIT").into(),
            program: env!("EXHAUSTIVE_PROGRAM").into(),
            core_math: env!("EXHAUSTIVE_CORE_MATH").into(),
            mpfr: format!("{}.{}.{}", mpfr::VERSION_MAJOR, mpfr::VERSION_MINOR, mpfr::VERSION_PATCHLEVEL),
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Provenance { evenkeel, commit, program, core_math, mpfr } = self;
        write!(f, "Evenkeel {evenkeel} ({commit}), exhaustive ({program}), core-math {core_math}, MPFR {mpfr}")
    }
}
