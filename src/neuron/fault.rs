//! What can go wrong with a Neuron device, and what is to be done about it.

#![forbid(unsafe_code)]

use super::runtime::NrtStatus;
use crate::error::Error;

/// A result with this backend's [`Fault`].
pub type Result<T> = std::result::Result<T, Fault>;

/// What is to be done about a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Another backend can do the work, if none of it is done yet: the device, or what it needs, is not to be had.
    FallBack,
    /// The caller has to know: results can't be trusted, or the device is broken.
    Surface,
    /// A NaN arose in the program.
    Numerical,
    /// A call or a program was wrong.
    Bug,
    /// The call can be made again soon. It was, some times, before a fault is returned, which is then to be surfaced.
    Retry,
}

/// Where a run that ended for a NaN has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanAt {
    /// At this element of this output, the first of them.
    Output {
        /// The output's number.
        output: usize,
        /// The element's index, row-major.
        index: usize,
    },
    /// In no output: it arose inside and was thrown away, or the device was wrong about it, which some runtimes are.
    InsideOnly,
}

/// Everything that can go wrong with a Neuron device. [`Fault::action`] says what is to be done about it.
///
/// As an [`Error`], what another backend can be used for is [`Error::Backend`], and everything else
/// [`Error::Neuron`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No device, or nothing to use it with.
    #[error("{reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
    },
    /// An environment variable whose value means nothing.
    #[error("{variable} is {value}; it must be {expected}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The compiler gave no program.
    #[error("neuronx-cc on {program}: {reason}{}", tail(log))]
    Compile {
        /// The program's name.
        program: String,
        /// What it did instead.
        reason: String,
        /// The end of what it wrote.
        log: String,
    },
    /// A call of the runtime that failed.
    #[error("{call}: {status}")]
    Status {
        /// The runtime's function.
        call: &'static str,
        /// What it returned.
        status: NrtStatus,
        /// Whether the program was loaded by then, so that work may be under way.
        at_work: bool,
    },
    /// A run that the device ended for a NaN.
    #[error("{program}: {}", told(*nan))]
    Numerical {
        /// The program's name.
        program: String,
        /// Where the NaN is.
        nan: NanAt,
    },
    /// Tensors that are not those of the program.
    #[error("{program}: {tensor} is {got}; {expected} is needed")]
    Mismatch {
        /// The program's name.
        program: String,
        /// Which tensor, or what of all of them.
        tensor: String,
        /// What it is.
        got: String,
        /// What it has to be.
        expected: String,
    },
    /// The device broke earlier in this process, which can't use it any more.
    #[error("the device is not used any more by this process, since it ended a call with {status}")]
    Broken {
        /// What it broke with.
        status: NrtStatus,
    },
    /// The thread that calls the runtime panicked; it goes on.
    #[error("a call panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
}

fn told(nan: NanAt) -> String {
    match nan {
        NanAt::Output { output, index } => format!("a NaN arose; output {output} has one at {index}"),
        NanAt::InsideOnly => "the device reports a NaN, which no output has".to_string(),
    }
}

fn tail(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; it wrote:\n{log}") }
}

impl Fault {
    /// What is to be done about it. A status that could be a reason to fall back isn't any more at work.
    pub fn action(&self) -> Action {
        match self {
            Fault::Unavailable { .. } | Fault::Compile { .. } => Action::FallBack,
            Fault::Setting { .. } | Fault::Broken { .. } => Action::Surface,
            Fault::Status { status, at_work, .. } => match (status.action(), at_work) {
                (Action::Retry, _) | (Action::FallBack, true) => Action::Surface,
                // Of no kind: at the start that is the device's not being usable.
                (Action::Surface, false) if *status == NrtStatus::FAILURE => Action::FallBack,
                (action, _) => action,
            },
            Fault::Numerical { .. } => Action::Numerical,
            Fault::Mismatch { .. } | Fault::Panicked { .. } => Action::Bug,
        }
    }

    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Fault::Unavailable { reason: reason.into() }
    }

    pub(super) fn setting(variable: &'static str, value: impl Into<String>, expected: &'static str) -> Self {
        Fault::Setting { variable, value: value.into(), expected }
    }

    pub(super) fn mismatch(
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
            Action::FallBack => Error::Backend { backend: "neuron".into(), reason: fault.to_string() },
            _ => Error::Neuron(fault),
        }
    }
}
