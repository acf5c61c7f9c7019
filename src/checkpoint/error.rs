//! What can be wrong with a file.

use std::path::{Path, PathBuf};

/// Why a checkpoint can't be read, with the file, the tensor, the value and its limit.
///
/// Names that come from a file are shown escaped, and cut after 200 characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused, or the file ended while it was read.
    #[error("{path}: {doing}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What was read, such as the header or a tensor by its name.
        doing: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is no checkpoint, or none of a kind that is known.
    #[error("{path}: {reason}")]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// Why it is none.
        reason: String,
    },
    /// A value of the file's header, or of an index, that can't be.
    #[error("{path}: {field} is {value}; it must be {limit}")]
    Header {
        /// The file.
        path: PathBuf,
        /// Which value.
        field: String,
        /// What it is.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// A value of one tensor that can't be.
    #[error("{path}: tensor {tensor}: {field} is {value}; it must be {limit}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Which value.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// An instruction set that `EVENKEEL_SIMD` names, and that is unknown or not there.
    #[error(transparent)]
    Simd(Box<crate::Error>),
}

/// A result with this module's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn read(path: &Path, doing: impl Into<String>, source: std::io::Error) -> Self {
        Error::Read { path: path.into(), doing: doing.into(), source }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Error::Format { path: path.into(), reason: reason.into() }
    }

    pub(crate) fn header(
        path: &Path,
        field: impl Into<String>,
        value: impl ToString,
        limit: impl Into<String>,
    ) -> Self {
        Error::Header { path: path.into(), field: field.into(), value: value.to_string(), limit: limit.into() }
    }

    pub(crate) fn tensor(
        path: &Path,
        tensor: &str,
        field: &'static str,
        value: impl ToString,
        limit: impl Into<String>,
    ) -> Self {
        let (value, limit) = (value.to_string(), limit.into());
        Error::Tensor { path: path.into(), tensor: shown(tensor), field, value, limit }
    }
}

/// A name of a file's own, fit to be printed.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 200;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push_str("..");
    }
    format!("`{text}`")
}
