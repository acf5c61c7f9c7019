//! The one error type.

#![forbid(unsafe_code)]

/// Everything that can go wrong, with the values that a caller needs to act on it.
///
/// Ops return it before any output is written, but for [`Error::FullyMasked`] and [`Error::NonFiniteInput`], which
/// depend on the data: after those the output holds finite but unspecified values, or, in
/// clipping, what it held. Whatever allocates may return [`Error::OutOfMemory`].
///
/// ```
/// use evenkeel::SamplerConfig;
/// let e = SamplerConfig::default().top_p(1.2).validate().unwrap_err();
/// assert_eq!(e.to_string(), "sample: top_p is 1.2; it must be in (0, 1]");
/// assert_eq!(e.name(), "InvalidArgument");
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter outside its meaning.
    #[error("{op}: {argument} is {value}; it must be {expected}")]
    InvalidArgument {
        /// The op that was called.
        op: &'static str,
        /// The parameter.
        argument: &'static str,
        /// What it was.
        value: String,
        /// What it must be.
        expected: String,
        /// The lowest row that has it, of a value that rows have.
        row: Option<usize>,
    },
    /// Lengths or shapes that do not fit each other.
    #[error("{op}: {argument} has {got}; {expected} is needed")]
    ShapeMismatch {
        /// The op that was called.
        op: &'static str,
        /// The operand.
        argument: &'static str,
        /// What it has.
        got: String,
        /// What it needs.
        expected: String,
    },
    /// A storage type that the op does not take on this backend.
    #[error("{op}: {dtype} is not supported on {backend}")]
    UnsupportedDType {
        /// The op that was called.
        op: &'static str,
        /// The type.
        dtype: String,
        /// The backend.
        backend: &'static str,
    },
    /// A NaN, or in clipping an infinity too, where the op has to refuse it.
    #[error("{op}: row {row} of the input has {value} at {index}; what made it was broken before this op")]
    NonFiniteInput {
        /// The op that was called.
        op: &'static str,
        /// The lowest row that has one; in clipping, the first tensor.
        row: usize,
        /// The lowest index in it.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// A row with nothing to attend to, under [`FullyMasked::Error`](crate::FullyMasked::Error).
    #[error("{op}: row {row} is wholly masked")]
    FullyMasked {
        /// The op that was called.
        op: &'static str,
        /// The lowest such row.
        row: usize,
    },
    /// No elements where at least one is needed.
    #[error("{op}: the input is empty")]
    EmptyInput {
        /// The op that was called.
        op: &'static str,
    },
    /// Masks or filters that left the sampler no token.
    #[error("{op}: row {row} has no token left to draw from; all {vocabulary} are masked")]
    EmptySupport {
        /// The op that was called.
        op: &'static str,
        /// The lowest such row.
        row: usize,
        /// How many tokens there were.
        vocabulary: usize,
    },
    /// Memory that could not be allocated. The arguments are valid.
    #[error("{op}: could not allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// The op that was called.
        op: &'static str,
        /// The value that needs the memory.
        what: &'static str,
        /// How many bytes it needs.
        bytes: u128,
    },
    /// Training that came to a loss or a norm which is not finite.
    #[error("train: the {what} of step {step} is {value}; what came before it is whole")]
    Diverged {
        /// The step's number.
        step: u64,
        /// What is not finite.
        what: &'static str,
        /// What it is.
        value: f64,
    },
    /// A place for records of training that does not take one.
    #[error("{sink}: {reason}; the record of step {step} is not in it")]
    Sink {
        /// The place.
        sink: String,
        /// The step's number.
        step: u64,
        /// What it was refused with.
        reason: String,
    },
    /// A file that was not written; what was there before is there still.
    #[error("{path} is not written: {reason}")]
    Unsaved {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A backend or instruction set that is unknown or not there.
    #[error("{backend}: {reason}")]
    Backend {
        /// What was asked for.
        backend: String,
        /// Why it can't be had.
        reason: String,
    },
    /// Ranks that are not about to do the same, or of which one did not come.
    #[cfg(feature = "sharded")]
    #[error("{op}: {reason}")]
    Collective {
        /// The op that was called, or what was exchanged.
        op: &'static str,
        /// The rank that is the cause, where it is known; the lowest of several.
        rank: Option<usize>,
        /// What is the matter, with ranks and values.
        reason: String,
    },
    /// A NaN or an infinity in what a rank has of a tensor.
    #[cfg(feature = "sharded")]
    #[error("{op}: rank {rank} has {value} at {index} of tensor {row}; what made it was broken before this op")]
    NonFiniteShard {
        /// The op that was called.
        op: &'static str,
        /// The first tensor that has one.
        row: usize,
        /// The lowest index in it, of all of its elements.
        index: usize,
        /// The value found.
        value: f64,
        /// The rank that has it; the lowest of several.
        rank: usize,
    },
    /// A Neuron device that was used, or asked for, in a way that another backend is no answer to.
    #[cfg(feature = "neuron")]
    #[error("neuron: {0}")]
    Neuron(crate::neuron::Fault),
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The variant's name, for logs and protocols; of what is a device's fault, `Backend`; of a shard that is
    /// not finite, `NonFiniteInput`.
    pub fn name(&self) -> &'static str {
        match self {
            Error::InvalidArgument { .. } => "InvalidArgument",
            Error::ShapeMismatch { .. } => "ShapeMismatch",
            Error::UnsupportedDType { .. } => "UnsupportedDType",
            Error::NonFiniteInput { .. } => "NonFiniteInput",
            Error::FullyMasked { .. } => "FullyMasked",
            Error::EmptyInput { .. } => "EmptyInput",
            Error::EmptySupport { .. } => "EmptySupport",
            Error::OutOfMemory { .. } => "OutOfMemory",
            Error::Diverged { .. } => "Diverged",
            Error::Sink { .. } => "Sink",
            Error::Unsaved { .. } => "Unsaved",
            Error::Backend { .. } => "Backend",
            #[cfg(feature = "sharded")]
            Error::Collective { .. } => "Collective",
            #[cfg(feature = "sharded")]
            Error::NonFiniteShard { .. } => "NonFiniteInput",
            #[cfg(feature = "neuron")]
            Error::Neuron(_) => "Backend",
        }
    }

    /// The row that the error names, where it names one.
    pub fn row(&self) -> Option<usize> {
        match self {
            Error::NonFiniteInput { row, .. } | Error::FullyMasked { row, .. } | Error::EmptySupport { row, .. } => {
                Some(*row)
            }
            Error::InvalidArgument { row, .. } => *row,
            #[cfg(feature = "sharded")]
            Error::NonFiniteShard { row, .. } => Some(*row),
            _ => None,
        }
    }

    /// The index within the row that the error names, where it names one.
    pub fn index(&self) -> Option<usize> {
        match self {
            Error::NonFiniteInput { index, .. } => Some(*index),
            #[cfg(feature = "sharded")]
            Error::NonFiniteShard { index, .. } => Some(*index),
            _ => None,
        }
    }

    /// The same of a row of a call that had it as its only one.
    #[cfg(feature = "neuron")]
    pub(crate) fn in_row(mut self, of: usize) -> Self {
        if let Error::NonFiniteInput { row, .. } | Error::FullyMasked { row, .. } | Error::EmptySupport { row, .. } =
            &mut self
        {
            *row = of;
        }
        self
    }

    /// The same of an exchange that was part of an op.
    #[cfg(feature = "sharded")]
    pub(crate) fn in_collective(mut self, of: &'static str) -> Self {
        if let Error::Collective { op, .. } = &mut self {
            *op = of;
        }
        self
    }

    pub(crate) fn invalid(
        op: &'static str,
        argument: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Error::InvalidArgument { op, argument, value: value.to_string(), expected: expected.into(), row: None }
    }

    /// [`Error::invalid`] of a value that a row has.
    pub(crate) fn invalid_in_row(
        op: &'static str,
        argument: &'static str,
        row: usize,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        let value = format!("{} in row {row}", value.to_string());
        Error::InvalidArgument { op, argument, value, expected: expected.into(), row: Some(row) }
    }

    pub(crate) fn shape(
        op: &'static str,
        argument: &'static str,
        got: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Error::ShapeMismatch { op, argument, got: got.into(), expected: expected.into() }
    }
}
