//! The crate's error type.

#![forbid(unsafe_code)]

mod equality;
#[cfg(feature = "neuron")]
pub(crate) mod fault;
mod new;
#[cfg(feature = "neuron")]
mod nrt_status;
mod source;

#[cfg(feature = "neuron")]
pub use nrt_status::NrtStatus;
pub use source::Source;

/// Any error of this crate, with the values that a caller needs to handle it.
///
/// Ops return errors before they write any output, with two exceptions that depend on the data: [`Error::FullyMasked`]
/// and [`Error::NonFiniteInput`]. After these two errors, the output holds finite but unspecified values. Clipping,
/// however, leaves the gradients unchanged. Every function that allocates may return [`Error::OutOfMemory`].
///
/// Variants may get more fields, so patterns end with `..`. Other crates create errors with the functions below, such
/// as [`Error::fully_masked`]. An error equals itself, even if it holds a NaN.
///
/// ```
/// use evenkeel::Error;
/// let e = Error::fully_masked("softmax", 3);
/// assert!(matches!(e, Error::FullyMasked { op: "softmax", row: 3, .. }));
/// ```
/// ```compile_fail
/// // Does not compile, because only this crate can construct the variant.
/// let e = evenkeel::Error::FullyMasked { op: "softmax", row: 3 };
/// ```
///
/// A program may use the CPU instead of another backend after [`Error::Unavailable`], and after no other error:
/// [`Error::Failed`] and [`Error::Framework`] mean that an available backend failed, for example because its device is
/// out of memory.
///
/// ```
/// use evenkeel::SamplerConfig;
/// let e = SamplerConfig::default().top_p(1.2).validate().unwrap_err();
/// assert_eq!(e.to_string(), "sample: top_p is 1.2; it must be in (0, 1]");
/// assert_eq!(e.name(), "InvalidArgument");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter has an invalid value.
    #[error("{op}: {argument} is {value}; it must be {expected}")]
    #[non_exhaustive]
    InvalidArgument {
        /// Name of the op that was called.
        op: &'static str,
        /// Name of the parameter.
        argument: &'static str,
        /// The invalid value.
        value: String,
        /// Description of the valid values.
        expected: String,
        /// Lowest row with an invalid value, if the parameter has one value per row.
        row: Option<usize>,
    },
    /// The length or shape of an operand does not fit the other operands.
    #[error("{op}: {argument} has {got}; expected {expected}")]
    #[non_exhaustive]
    ShapeMismatch {
        /// Name of the op that was called.
        op: &'static str,
        /// Name of the operand.
        argument: &'static str,
        /// Actual length or shape of the operand.
        got: String,
        /// Required length or shape.
        expected: String,
    },
    /// The op does not support a storage type on this backend.
    #[error("{op}: {dtype} is not supported on {backend}")]
    #[non_exhaustive]
    UnsupportedDType {
        /// Name of the op that was called.
        op: &'static str,
        /// Name of the storage type.
        dtype: String,
        /// Name of the backend.
        backend: &'static str,
    },
    /// The input holds a NaN, which the op rejects. Clipping rejects infinities too.
    #[error("{op}: {part} {row} of the input has {value} at index {index}; check the op that produced this input")]
    #[non_exhaustive]
    NonFiniteInput {
        /// Name of the op that was called.
        op: &'static str,
        /// Word for a part of the input: "row", "tensor" or "parameter". `row` is the index of such a part.
        part: &'static str,
        /// Index of the first part that holds a rejected value.
        row: usize,
        /// Lowest index of a rejected value within this part.
        index: usize,
        /// The rejected value.
        value: f64,
    },
    /// A row is fully masked and the policy is [`FullyMasked::Error`](crate::FullyMasked::Error).
    #[error("{op}: row {row} is fully masked, which the policy FullyMasked::Error rejects")]
    #[non_exhaustive]
    FullyMasked {
        /// Name of the op that was called.
        op: &'static str,
        /// Lowest fully masked row.
        row: usize,
    },
    /// The input has no elements, but the op needs at least one.
    #[error("{op}: the input is empty; at least one element is required")]
    #[non_exhaustive]
    EmptyInput {
        /// Name of the op that was called.
        op: &'static str,
    },
    /// All tokens of a row are masked, so the sampler has no token to draw.
    #[error("{op}: row {row} has no token left to draw from; all {vocabulary} tokens are masked")]
    #[non_exhaustive]
    EmptySupport {
        /// Name of the op that was called.
        op: &'static str,
        /// Lowest row from which no token can be drawn.
        row: usize,
        /// Number of tokens in the vocabulary.
        vocabulary: usize,
    },
    /// An allocation failed. The arguments are valid.
    #[error("{op}: could not allocate {bytes} bytes for {what}")]
    #[non_exhaustive]
    OutOfMemory {
        /// Name of the op that was called.
        op: &'static str,
        /// Description of the value that needs the memory.
        what: &'static str,
        /// Number of bytes requested.
        bytes: u128,
    },
    /// The loss or the gradient norm of a training step is not finite.
    #[error("train: the {what} of step {step} is {value}; resume from an earlier checkpoint")]
    #[non_exhaustive]
    Diverged {
        /// Number of the step.
        step: u64,
        /// Name of the quantity that is not finite.
        what: &'static str,
        /// The value that is not finite.
        value: f64,
    },
    /// A sink for training records failed to write a record.
    #[error("{sink}: {reason}; the record of step {step} was not written")]
    #[non_exhaustive]
    Sink {
        /// Name of the sink.
        sink: String,
        /// Number of the step.
        step: u64,
        /// Reason for the failure.
        reason: String,
        /// Error of the sink.
        source: Source,
    },
    /// A file was not saved. An existing file at its path is unchanged.
    #[error("{path} was not saved: {reason}")]
    #[non_exhaustive]
    Unsaved {
        /// Path of the file.
        path: String,
        /// Reason for the failure.
        reason: String,
        /// Error of the operating system or the framework, if one caused the failure.
        source: Option<Source>,
    },
    /// A backend or instruction set is unknown or not available, or does not have the op. Nothing was computed, so
    /// another backend may be used instead.
    #[error("{backend}: {reason}")]
    #[non_exhaustive]
    Unavailable {
        /// Name of the requested backend or instruction set.
        backend: String,
        /// Reason that the backend cannot be used.
        reason: String,
    },
    /// A call to a device, its driver or its library failed. The backend is available, so a program must not
    /// silently replace it by another one.
    #[error("{backend}: {reason}")]
    #[non_exhaustive]
    Failed {
        /// Name of the backend.
        backend: String,
        /// Description of the failure.
        reason: String,
        /// Error of the driver or the library, if there is one.
        source: Option<Source>,
    },
    /// A framework such as candle returned an error of its own.
    #[error("{framework}: {source}")]
    #[non_exhaustive]
    Framework {
        /// Name of the framework.
        framework: &'static str,
        /// Error of the framework.
        source: Source,
    },
    /// Ranks disagree about the call, or a rank timed out.
    #[cfg(feature = "sharded")]
    #[error("{op}: {reason}")]
    #[non_exhaustive]
    Collective {
        /// Name of the op that was called, or of the data that was exchanged.
        op: &'static str,
        /// Rank that caused the error, if known; the lowest if there are several.
        rank: Option<usize>,
        /// Description of the error, with ranks and values.
        reason: String,
    },
    /// A rank's shard of a tensor holds a NaN or an infinity.
    #[cfg(feature = "sharded")]
    #[error("{op}: rank {rank} has {value} at index {index} of tensor {row}; check the op that produced this tensor")]
    #[non_exhaustive]
    NonFiniteShard {
        /// Name of the op that was called.
        op: &'static str,
        /// Index of the first tensor that holds a NaN or an infinity.
        row: usize,
        /// Lowest index of a NaN or an infinity in the whole tensor.
        index: usize,
        /// The value: NaN or an infinity.
        value: f64,
        /// Rank that holds the value; the lowest if there are several.
        rank: usize,
    },
    /// A Neuron device had a fault. A program must not replace the device by another backend after this fault.
    #[cfg(feature = "neuron")]
    #[error("neuron: {0}")]
    Neuron(fault::Fault),
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns the variant's name, for logs and protocols.
    ///
    /// Some variants share a name: `Unavailable`, `Failed`, `Framework` and `Neuron` return `Backend`, and
    /// `NonFiniteShard` returns `NonFiniteInput`.
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
            Error::Unavailable { .. } | Error::Failed { .. } | Error::Framework { .. } => "Backend",
            #[cfg(feature = "sharded")]
            Error::Collective { .. } => "Collective",
            #[cfg(feature = "sharded")]
            Error::NonFiniteShard { .. } => "NonFiniteInput",
            #[cfg(feature = "neuron")]
            Error::Neuron(_) => "Backend",
        }
    }

    /// Returns the row that the error names, if any.
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

    /// Returns the index of the rejected element, if the error names one. It is an index within a row or within a
    /// tensor.
    pub fn index(&self) -> Option<usize> {
        match self {
            Error::NonFiniteInput { index, .. } => Some(*index),
            #[cfg(feature = "sharded")]
            Error::NonFiniteShard { index, .. } => Some(*index),
            _ => None,
        }
    }

    /// Sets the error's row to `of`, the number of the row in the batch, and returns the error.
    #[cfg(feature = "neuron")]
    pub(crate) fn in_row(mut self, of: usize) -> Self {
        if let Error::NonFiniteInput { row, .. } | Error::FullyMasked { row, .. } | Error::EmptySupport { row, .. } =
            &mut self
        {
            *row = of;
        }
        self
    }

    /// Sets the error's op to `of`, the name of the op that needed the data exchange, and returns the error.
    #[cfg(feature = "sharded")]
    pub(crate) fn in_collective(mut self, of: &'static str) -> Self {
        if let Error::Collective { op, .. } = &mut self {
            *op = of;
        }
        self
    }
}
