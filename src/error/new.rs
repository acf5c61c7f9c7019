//! Functions that create errors.

use super::{Error, Source};

impl Error {
    /// Creates an [`Error::InvalidArgument`].
    pub fn invalid(
        op: &'static str,
        argument: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Error::InvalidArgument { op, argument, value: value.to_string(), expected: expected.into(), row: None }
    }

    /// Creates an [`Error::InvalidArgument`] for a value that belongs to one row.
    pub fn invalid_in_row(
        op: &'static str,
        argument: &'static str,
        row: usize,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        let value = format!("{} in row {row}", value.to_string());
        Error::InvalidArgument { op, argument, value, expected: expected.into(), row: Some(row) }
    }

    /// Creates an [`Error::ShapeMismatch`].
    pub fn shape(
        op: &'static str,
        argument: &'static str,
        got: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Error::ShapeMismatch { op, argument, got: got.into(), expected: expected.into() }
    }

    /// Creates an [`Error::UnsupportedDType`].
    pub fn unsupported_dtype(op: &'static str, dtype: impl ToString, backend: &'static str) -> Self {
        Error::UnsupportedDType { op, dtype: dtype.to_string(), backend }
    }

    /// Creates an [`Error::NonFiniteInput`] for a row.
    pub fn non_finite_input(op: &'static str, row: usize, index: usize, value: f64) -> Self {
        Error::NonFiniteInput { op, part: "row", row, index, value }
    }

    /// Creates an [`Error::FullyMasked`].
    pub fn fully_masked(op: &'static str, row: usize) -> Self {
        Error::FullyMasked { op, row }
    }

    /// Creates an [`Error::EmptyInput`].
    pub fn empty_input(op: &'static str) -> Self {
        Error::EmptyInput { op }
    }

    /// Creates an [`Error::EmptySupport`].
    pub fn empty_support(op: &'static str, row: usize, vocabulary: usize) -> Self {
        Error::EmptySupport { op, row, vocabulary }
    }

    /// Creates an [`Error::OutOfMemory`].
    pub fn out_of_memory(op: &'static str, what: &'static str, bytes: u128) -> Self {
        Error::OutOfMemory { op, what, bytes }
    }

    /// Creates an [`Error::Diverged`].
    pub fn diverged(step: u64, what: &'static str, value: f64) -> Self {
        Error::Diverged { step, what, value }
    }

    /// Creates an [`Error::Unavailable`]. A program may then use another backend.
    pub fn unavailable(backend: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Unavailable { backend: backend.into(), reason: reason.into() }
    }

    /// Creates an [`Error::Failed`] without a source.
    pub fn failed(backend: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Failed { backend: backend.into(), reason: reason.into(), source: None }
    }

    /// Creates an [`Error::Failed`] with the error of a driver or a library as its source.
    pub fn failed_with(backend: impl Into<String>, reason: impl Into<String>, source: Source) -> Self {
        Error::Failed { backend: backend.into(), reason: reason.into(), source: Some(source) }
    }

    /// Creates an [`Error::Framework`].
    pub fn framework(framework: &'static str, source: Source) -> Self {
        Error::Framework { framework, source }
    }

    /// Creates an [`Error::Collective`]. `rank` is the rank that caused the error, if this rank is known.
    #[cfg(feature = "sharded")]
    pub fn collective(op: &'static str, rank: Option<usize>, reason: impl Into<String>) -> Self {
        Error::Collective { op, rank, reason: reason.into() }
    }

    /// Creates an [`Error::NonFiniteShard`].
    #[cfg(feature = "sharded")]
    pub fn non_finite_shard(op: &'static str, rank: usize, row: usize, index: usize, value: f64) -> Self {
        Error::NonFiniteShard { op, row, index, value, rank }
    }
}
