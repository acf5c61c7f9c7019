//! Errors of the program. A misrounded result is not an error in this sense.

use std::path::{Path, PathBuf};

/// Reason why a walk failed, or why its row could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library returned an error.
    #[error("{0}")]
    Evenkeel(#[from] evenkeel::Error),
    /// The thread pool could not be created.
    #[error("can't create the threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file is not in this program's format. The program leaves it unchanged.
    #[error("{path} is damaged: {reason}; repair it, or remove it to start over")]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Reason why its contents are invalid.
        reason: String,
    },
    /// A stored walk used another version of the library or of the references.
    #[error(
        "{path} has results of {begun}, but this program uses {now}; remove the file, or start over with `--restart`"
    )]
    Stale {
        /// Path of the progress file.
        path: PathBuf,
        /// Versions of the stored walk.
        begun: String,
        /// Versions of this program.
        now: String,
    },
    /// The number is so close to the midpoint of two f32 that the largest precision did not decide the rounding.
    #[error(
        "can't round {function} at {x:e}: even with {bits} bits, the result is too close to the midpoint of two f32"
    )]
    Undecided {
        /// Name of the function.
        function: &'static str,
        /// The input.
        x: f32,
        /// Precision that was not sufficient, in bits.
        bits: u32,
    },
    /// The reference is itself wrong.
    #[error("the reference of {function} is wrong at {x:e}: it gives {reference:e}, and MPFR gives {exact:e}")]
    Reference {
        /// Name of the function.
        function: &'static str,
        /// The input.
        x: f32,
        /// Result of the reference.
        reference: f32,
        /// Correctly rounded result.
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
