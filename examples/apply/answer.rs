//! Answers that are printed on stdout.

use serde::Serialize;

/// Answer to one job, printed as one line.
#[derive(Serialize)]
pub struct Answer {
    id: String,
    ok: bool,
    #[serde(flatten)]
    failure: Option<Failure>,
}

impl Answer {
    /// Creates the answer to the job with this id.
    pub fn new(id: &str, failure: Option<Failure>) -> Self {
        Answer { id: id.into(), ok: failure.is_none(), failure }
    }
}

/// Reason why a job has no outputs.
#[derive(Clone, Serialize)]
pub struct Failure {
    error: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

impl Failure {
    /// Creates an `InvalidArgument` failure: an unknown name or an invalid attribute.
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure::new("InvalidArgument", message)
    }

    /// Creates a `ShapeMismatch` failure.
    pub fn shape(message: impl Into<String>) -> Self {
        Failure::new("ShapeMismatch", message)
    }

    /// Creates an `UnsupportedDType` failure.
    pub fn dtype(message: impl Into<String>) -> Self {
        Failure::new("UnsupportedDType", message)
    }

    fn new(error: &'static str, message: impl Into<String>) -> Self {
        Failure { error, message: message.into(), row: None, index: None }
    }
}

impl From<evenkeel::Error> for Failure {
    fn from(error: evenkeel::Error) -> Self {
        Failure { error: error.name(), message: error.to_string(), row: error.row(), index: error.index() }
    }
}
