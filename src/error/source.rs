//! Errors of other libraries, as sources of this crate's error.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Error of another library, for example of the operating system, a driver or a framework.
///
/// [`Error::source`] of this crate's error returns the wrapped error itself, which can be downcast. Clones share the
/// error. Two sources are equal if they are clones of each other or have the same text.
#[derive(Clone)]
pub struct Source(Arc<dyn Error + Send + Sync>);

impl Source {
    /// Wraps an error.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Source(Arc::from(error.into()))
    }
}

impl Deref for Source {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.to_string() == other.0.to_string()
    }
}

impl Eq for Source {}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
