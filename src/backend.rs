//! Which backend works: decided once, at the start, from the environment or in code.
//!
//! The order is that of [`Backend::ALL`]: neuron, cuda, cpu. A backend that is not there is passed over
//! with its reason; one that was asked for by name is not, and one that fails later is an error, never a silent switch.
//! With the feature `tracing` the choice and the reasons are events.
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

/// The environment variable that names a backend.
const VARIABLE: &str = "EVENKEEL_BACKEND";

/// Which backends may be taken: the first that is there, or a certain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendChoice {
    only: Option<Backend>,
}

/// The backend that was taken, and what was set up on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen<T> {
    /// The backend.
    pub backend: Backend,
    /// Those that come before it, with the reason why each was not taken.
    pub passed_over: Vec<(Backend, String)>,
    /// What was set up.
    pub value: T,
}

impl BackendChoice {
    /// The first that is there.
    pub const AUTO: BackendChoice = BackendChoice { only: None };

    /// This one and no other.
    pub const fn of(backend: Backend) -> Self {
        BackendChoice { only: Some(backend) }
    }

    /// What `EVENKEEL_BACKEND` says: auto, neuron, cuda or cpu; [`BackendChoice::AUTO`] where it is not set.
    ///
    /// # Errors
    /// [`Error::Backend`] for another name.
    pub fn from_env() -> Result<Self> {
        match std::env::var_os(VARIABLE) {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse(),
            _ => Ok(Self::AUTO),
        }
    }

    /// Sets up the first backend that can be, by `make`, which says so by [`Error::Backend`] where a backend is not
    /// there: [`available`], or what opens its device and loads what is needed there.
    ///
    /// # Errors
    /// What `make` returns, of a backend that was asked for by name; else what it returns but [`Error::Backend`], and
    /// that of the last backend.
    pub fn set_up<T>(self, mut make: impl FnMut(Backend) -> Result<T>) -> Result<Chosen<T>> {
        let (before, last): (&[Backend], _) = match self.only {
            Some(only) => (&[], only),
            None => (&[Backend::Neuron, Backend::Cuda], Backend::Cpu),
        };
        let mut passed_over = Vec::new();
        for &backend in before {
            match make(backend) {
                Ok(value) => return Ok(Chosen::new(backend, passed_over, value)),
                Err(Error::Backend { reason, .. }) => {
                    #[cfg(feature = "tracing")]
                    tracing::info!(backend = backend.name(), reason, "backend passed over");
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
            _ => Backend::ALL.into_iter().find(|backend| backend.name() == name).map(Self::of).ok_or_else(|| {
                let reason = "unknown backend; there are auto, neuron, cuda and cpu".into();
                Error::Backend { backend: name.into(), reason }
            }),
        }
    }
}

impl<T> fmt::Display for Chosen<T> {
    /// The backend, and in brackets why those before it were not taken.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend.name())?;
        for (at, (backend, reason)) in self.passed_over.iter().enumerate() {
            write!(f, "{}{}: {reason}", if at == 0 { " (" } else { "; " }, backend.name())?;
        }
        if self.passed_over.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// Whether a backend is in this build and on this machine: its first device, its runtime, its compiler.
///
/// # Errors
/// [`Error::Backend`] with the reason where it is not; on Neuron, which is initialised for it, `Error::Neuron` where it
/// is there and broken.
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
            Err(Error::Backend {
                backend: name.into(),
                reason: format!("this build is without it; its feature is {name}"),
            })
        }
    }
}
