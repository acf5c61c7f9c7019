//! What can go wrong beside a kernel.

use std::path::{Path, PathBuf};

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused.
    #[error("{0}")]
    Evenkeel(#[from] evenkeel::Error),
    /// A program is not there, or failed.
    #[error("{program}: {reason}")]
    Program { program: &'static str, reason: String },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    /// The table could not be read or written.
    #[error("counts.tsv: {0}")]
    Table(#[from] csv::Error),
    /// Callgrind wrote something else than was expected.
    #[error("callgrind wrote {found} counts of {expected} calls")]
    Counts { found: usize, expected: usize },
    /// The names in this program do not say which kernel they are.
    #[error("no kernels by name: build in the folder of `watch`, which has names mangled as version v0")]
    NoNames,
}

/// A result that may be an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn file(path: &Path, source: std::io::Error) -> Self {
        Error::File { path: path.into(), source }
    }
}
