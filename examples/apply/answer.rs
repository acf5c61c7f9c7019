//! What stdout says of a job.

use serde::Serialize;

/// One line of stdout.
#[derive(Serialize)]
pub struct Answer {
    id: String,
    ok: bool,
    #[serde(flatten)]
    failure: Option<Failure>,
}

impl Answer {
    /// The answer to the job of this id.
    pub fn new(id: &str, failure: Option<Failure>) -> Self {
        Answer { id: id.into(), ok: failure.is_none(), failure }
    }
}

/// Why a job has no outputs.
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
    /// `InvalidArgument`: a name or an attribute that means nothing.
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure::new("InvalidArgument", message)
    }

    /// `ShapeMismatch`.
    pub fn shape(message: impl Into<String>) -> Self {
        Failure::new("ShapeMismatch", message)
    }

    /// `UnsupportedDType`.
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
