//! Errors of the program itself, as opposed to lost inlining.

use std::path::{Path, PathBuf};

/// Error that prevents a check.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Error of the library.
    #[error("{0}")]
    Evenkeel(#[from] evenkeel::Error),
    /// An external program is missing or failed.
    #[error("{program}: {reason}")]
    Program { program: &'static str, reason: String },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    /// The table could not be read or written.
    #[error("counts.tsv: {0}")]
    Table(#[from] csv::Error),
    /// Callgrind wrote an unexpected number of counts.
    #[error("callgrind must write one count per call: expected {expected} counts, got {found}")]
    Counts { found: usize, expected: usize },
    /// The function names in this program do not identify kernels.
    #[error(
        "no kernel names found: build in the folder tools/codegen-check, whose configuration enables v0 name mangling"
    )]
    NoNames,
    /// Incremental compilation is on.
    #[error(
        "CARGO_INCREMENTAL is 1: incremental builds inline less, so their counts are too high; unset the variable and \
         run again"
    )]
    Incremental,
}

/// Result with this program's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn file(path: &Path, source: std::io::Error) -> Self {
        Error::File { path: path.into(), source }
    }
}
