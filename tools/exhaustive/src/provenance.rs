//! What was compared with what.

use gmp_mpfr_sys::mpfr;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The versions behind a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The library's version.
    pub evenkeel: String,
    /// The last commit that changed the library, where it is known.
    pub commit: String,
    /// This program's sources, as git calls their tree.
    pub program: String,
    /// CORE-MATH's version, as the crate counts.
    pub core_math: String,
    /// MPFR's version.
    pub mpfr: String,
}

impl Provenance {
    /// That of this program.
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
