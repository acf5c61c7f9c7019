//! Selection of the backend, once at startup, by an environment variable or in code.
//!
//! Backends are tried in the order of [`Backend::ALL`]: neuron, cuda, cpu. An unavailable backend is skipped, and the
//! reason is recorded. A backend requested by name is never skipped: if it is unavailable, an error is returned. If the
//! selected backend fails later, the failing call returns an error, and no other backend replaces the failed one. With
//! the feature `tracing`, the choice and the reasons are emitted as events.
//!
//! ```
//! use evenkeel::backend::{self, BackendChoice};
//! use evenkeel::registry::Backend;
//!
//! let chosen = BackendChoice::of(Backend::Cpu).set_up(backend::available)?;
//! assert_eq!(chosen.to_string(), "cpu");
//! # Ok::<(), evenkeel::Error>(())
//! ```

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::registry::Backend;
use std::fmt;
use std::str::FromStr;

/// Environment variable that selects a backend.
const VARIABLE: &str = "EVENKEEL_BACKEND";

/// A requested backend: a specific one, or the first that is available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendChoice {
    only: Option<Backend>,
}

/// The backend that [`BackendChoice::set_up`] selected, and the value created for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Chosen<T> {
    /// The selected backend.
    pub backend: Backend,
    /// Skipped backends, each with its reason.
    pub passed_over: Vec<(Backend, String)>,
    /// Value created for the backend.
    pub value: T,
}

impl BackendChoice {
    /// Requests the first available backend.
    pub const AUTO: BackendChoice = BackendChoice { only: None };

    /// Requests exactly this backend.
    pub const fn of(backend: Backend) -> Self {
        BackendChoice { only: Some(backend) }
    }

    /// Reads `EVENKEEL_BACKEND`: auto, neuron, cuda or cpu. Returns [`BackendChoice::AUTO`] if it is not set.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for any other name.
    pub fn from_env() -> Result<Self> {
        match std::env::var_os(VARIABLE) {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse(),
            _ => Ok(Self::AUTO),
        }
    }

    /// Calls `make` for one backend after another, and returns the first value that it creates.
    ///
    /// `make` returns [`Error::Unavailable`] if a backend is not available. `make` can be [`available`], or a function
    /// that opens the device and loads everything needed.
    ///
    /// # Errors
    /// If `make` returns [`Error::Unavailable`], the next backend is tried. If no backend is left, this error is
    /// returned. Any other error of `make` is returned at once, for example if a device is out of memory.
    pub fn set_up<T>(self, mut make: impl FnMut(Backend) -> Result<T>) -> Result<Chosen<T>> {
        let (before, last): (&[Backend], _) = match self.only {
            Some(only) => (&[], only),
            None => (&[Backend::Neuron, Backend::Cuda], Backend::Cpu),
        };
        let mut passed_over = Vec::new();
        for &backend in before {
            match make(backend) {
                Ok(value) => return Ok(Chosen::new(backend, passed_over, value)),
                Err(Error::Unavailable { reason, .. }) => {
                    #[cfg(feature = "tracing")]
                    tracing::info!(backend = backend.name(), reason, "backend skipped");
                    passed_over.push((backend, reason));
                }
                Err(error) => return Err(error),
            }
        }
        make(last).map(|value| Chosen::new(last, passed_over, value))
    }
}

impl<T> Chosen<T> {
    fn new(backend: Backend, passed_over: Vec<(Backend, String)>, value: T) -> Self {
        #[cfg(feature = "tracing")]
        tracing::info!(backend = backend.name(), "backend chosen");
        Chosen { backend, passed_over, value }
    }
}

impl FromStr for BackendChoice {
    type Err = Error;

    /// Reads `auto`, `neuron`, `cuda` or `cpu`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::AUTO),
            _ => Backend::ALL
                .iter()
                .copied()
                .find(|backend| backend.name() == name)
                .map(Self::of)
                .ok_or_else(|| Error::unavailable(name, "unknown backend; use auto, neuron, cuda or cpu")),
        }
    }
}

impl<T> fmt::Display for Chosen<T> {
    /// Writes the backend, followed by the skipped backends and their reasons in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend.name())?;
        for (at, (backend, reason)) in self.passed_over.iter().enumerate() {
            write!(f, "{}{}: {reason}", if at == 0 { " (" } else { "; " }, backend.name())?;
        }
        if self.passed_over.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// Checks that a backend is available in this build and on this machine. The check covers the backend's first device,
/// its runtime and its compiler.
///
/// # Errors
/// [`Error::Unavailable`] with the reason if the backend is not available. For [`Backend::Neuron`], the call
/// initialises Neuron, and returns `Error::Neuron` if Neuron is present but broken.
pub fn available(backend: Backend) -> Result<()> {
    match backend {
        Backend::Cpu => Ok(()),
        #[cfg(feature = "cuda")]
        Backend::Cuda => crate::cuda::device(0).map(drop),
        #[cfg(feature = "neuron")]
        Backend::Neuron => Ok(crate::neuron::available()?),
        #[allow(unreachable_patterns)]
        missing => {
            let name = missing.name();
            Err(Error::unavailable(name, format!("the backend is not in this build; enable the feature `{name}`")))
        }
    }
}
