//! Errors of Neuron devices, and how to handle them.

use super::{Error, NrtStatus};

/// A result whose error is a [`Fault`].
pub type Result<T> = std::result::Result<T, Fault>;

/// How to handle a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Use another backend, if no work has been done yet. The device, or something that it needs, is not available.
    FallBack,
    /// Report the error to the user. Results cannot be trusted, or the device is broken.
    Surface,
    /// Report that the program produced a NaN.
    Numerical,
    /// Correct the call or the program: one of them is wrong.
    Bug,
    /// Repeat the call later. [`Fault::action`] never returns this action: Evenkeel repeats a failed run several times
    /// before it reports a fault, so [`Fault::action`] returns [`Action::Surface`].
    Retry,
}

/// Location of the NaN that made the device end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NanAt {
    /// First NaN in the outputs.
    Output {
        /// Number of the output.
        output: usize,
        /// Row-major index of the element.
        index: usize,
    },
    /// No output contains a NaN. Either the program discarded the NaN, or the device's report is wrong, which happens
    /// with some runtimes.
    InsideOnly,
}

/// Any error of a Neuron device. [`Fault::action`] tells how to handle it.
///
/// Converted to an [`Error`], a fault becomes [`Error::Unavailable`] if another backend can be used, and
/// [`Error::Neuron`] otherwise.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The device, or something needed to use it, is missing.
    #[error("{reason}")]
    #[non_exhaustive]
    Unavailable {
        /// Description of what is missing.
        reason: String,
    },
    /// An environment variable has an invalid value.
    #[error("{variable} is {value}; it must be {expected}")]
    #[non_exhaustive]
    Setting {
        /// Name of the variable.
        variable: &'static str,
        /// Value of the variable.
        value: String,
        /// Valid values.
        expected: &'static str,
    },
    /// The compiler did not produce a program.
    #[error("neuronx-cc on {program}: {reason}{}", tail(log))]
    #[non_exhaustive]
    Compile {
        /// Name of the program.
        program: String,
        /// Description of the failure.
        reason: String,
        /// End of the compiler's output.
        log: String,
    },
    /// A call to the runtime failed.
    #[error("{call}: {status}")]
    #[non_exhaustive]
    Status {
        /// Name of the runtime's function.
        call: &'static str,
        /// Status that the function returned.
        status: NrtStatus,
        /// Whether the program was already loaded, so that work may be in progress.
        at_work: bool,
    },
    /// The device ended a run because of a NaN.
    #[error("{program}: {}", describe(*nan))]
    #[non_exhaustive]
    Numerical {
        /// Name of the program.
        program: String,
        /// Location of the NaN.
        nan: NanAt,
    },
    /// The tensors of a call, or of a compiled file, do not match the tensors of the program.
    #[error("{program}: {tensor} is {got}; expected {expected}")]
    #[non_exhaustive]
    Mismatch {
        /// Name of the program.
        program: String,
        /// Name of the tensor or of another property that differs, such as the number of inputs.
        tensor: String,
        /// Actual value.
        got: String,
        /// Required value.
        expected: String,
    },
    /// The device broke earlier in this process. The process cannot use the device any more.
    #[error("this process no longer uses the device, because a call failed with {status}")]
    #[non_exhaustive]
    Broken {
        /// Status of the call that broke the device.
        status: NrtStatus,
    },
    /// Code on the runtime's thread panicked; the thread continues.
    #[error("a call on the runtime's thread panicked: {message}")]
    #[non_exhaustive]
    Panicked {
        /// Message of the panic.
        message: String,
    },
}

fn describe(nan: NanAt) -> String {
    match nan {
        NanAt::Output { output, index } => format!("the run produced a NaN, first in output {output} at index {index}"),
        NanAt::InsideOnly => "the device reports a NaN, but no output contains one".to_string(),
    }
}

fn tail(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; it wrote:\n{log}") }
}

impl Fault {
    /// Returns how to handle the fault. Once work may be in progress, no status allows a fallback to another backend.
    pub fn action(&self) -> Action {
        match self {
            Fault::Unavailable { .. } | Fault::Compile { .. } => Action::FallBack,
            Fault::Setting { .. } | Fault::Broken { .. } => Action::Surface,
            Fault::Status { status, at_work, .. } => match (status.action(), at_work) {
                (Action::Retry, _) | (Action::FallBack, true) => Action::Surface,
                // An unspecified failure before any work means that the device is not usable, so another backend may
                // replace it.
                (Action::Surface, false) if *status == NrtStatus::FAILURE => Action::FallBack,
                (action, _) => action,
            },
            Fault::Numerical { .. } => Action::Numerical,
            Fault::Mismatch { .. } | Fault::Panicked { .. } => Action::Bug,
        }
    }

    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Fault::Unavailable { reason: reason.into() }
    }

    pub(crate) fn setting(variable: &'static str, value: impl Into<String>, expected: &'static str) -> Self {
        Fault::Setting { variable, value: value.into(), expected }
    }

    pub(crate) fn mismatch(
        program: &str,
        tensor: impl Into<String>,
        got: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Fault::Mismatch { program: program.into(), tensor: tensor.into(), got: got.into(), expected: expected.into() }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault.action() {
            Action::FallBack => Error::unavailable("neuron", fault.to_string()),
            _ => Error::Neuron(fault),
        }
    }
}
