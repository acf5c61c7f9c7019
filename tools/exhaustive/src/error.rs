//! What can go wrong beside a misrounded result.

use std::path::{Path, PathBuf};

/// Why a walk could not be done or its row not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused.
    #[error("{0}")]
    Evenkeel(#[from] evenkeel::Error),
    /// The threads could not be made.
    #[error("no threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what this program writes; it is left as it is.
    #[error("{path} is damaged: {reason}; repair it, or remove it to begin anew")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What it has that it should not have.
        reason: String,
    },
    /// A walk was begun with another library, or other references.
    #[error("{path} was begun with {begun}, this is {now}; remove it, or begin anew with --restart")]
    Stale {
        /// The file that says how far it came.
        path: PathBuf,
        /// What it was begun with.
        begun: String,
        /// What would go on.
        now: String,
    },
    /// So close to the middle between two f32 that no number of bits told the side.
    #[error("{function} of {x:e} lies too close to the middle between two f32 for {bits} bits")]
    Undecided {
        /// Of which function.
        function: &'static str,
        /// At which input.
        x: f32,
        /// The bits that did not do.
        bits: u32,
    },
    /// What results are compared with is itself wrong.
    #[error("the reference of {function} is wrong at {x:e}: {reference:e}, and by MPFR {exact:e}")]
    Reference {
        /// Of which function.
        function: &'static str,
        /// At which input.
        x: f32,
        /// What it says.
        reference: f32,
        /// What is right.
        exact: f32,
    },
}

/// A result that may be an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Error::File { path: path.into(), source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Error::Damaged { path: path.into(), reason: reason.to_string() }
    }
}
