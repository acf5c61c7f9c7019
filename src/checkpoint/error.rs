//! Errors of checkpoint files.

use std::path::{Path, PathBuf};

/// Reason why a checkpoint cannot be read, with the file, the tensor, the value and its limit.
///
/// Names that come from a file are escaped and truncated to 200 characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error, or the file ended while it was read.
    #[error("{path}: {doing}: {source}")]
    #[non_exhaustive]
    Read {
        /// Path of the file or folder.
        path: PathBuf,
        /// Description of the part that was read, such as the header or a tensor's name.
        doing: String,
        /// Error from the operating system.
        source: std::io::Error,
    },
    /// The path is not a checkpoint, or its format is unknown.
    #[error("{path}: {reason}")]
    #[non_exhaustive]
    Format {
        /// Path of the file or folder.
        path: PathBuf,
        /// Reason why the path was rejected.
        reason: String,
    },
    /// A value in the file's header, or in an index, is invalid.
    #[error("{path}: {field} is {value}; it must be {limit}")]
    #[non_exhaustive]
    Header {
        /// Path of the file.
        path: PathBuf,
        /// Name of the invalid field.
        field: String,
        /// Value of the field.
        value: String,
        /// Description of the valid values.
        limit: String,
    },
    /// A value of one tensor is invalid.
    #[error("{path}: tensor {tensor}: {field} is {value}; it must be {limit}")]
    #[non_exhaustive]
    Tensor {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Name of the invalid field.
        field: &'static str,
        /// Value of the field.
        value: String,
        /// Description of the valid values.
        limit: String,
    },
    /// `EVENKEEL_SIMD` names an instruction set that is unknown or not available.
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

/// Prepares a name that comes from a file for printing: escapes it, truncates it to 200 characters, and quotes it.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 200;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push_str("..");
    }
    format!("`{text}`")
}
