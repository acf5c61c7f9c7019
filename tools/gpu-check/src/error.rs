//! Errors of the program.

use evenkeel::cuda::cudarc::driver::DriverError;
use std::path::PathBuf;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the library, for example that there is no device.
    #[error("{0}")]
    Evenkeel(#[from] evenkeel::Error),
    /// An error of the driver while memory was allocated or copied.
    #[error("the CUDA driver failed: {0:?}")]
    Driver(#[from] DriverError),
    /// A kernel wrote outside its results.
    #[error("a kernel wrote outside its result, at element {0} counted from the start of the result")]
    WroteBeside(i64),
    /// An op allocated this many bytes, although it had run on the stream at the same size before.
    #[error("the second call of an op allocated {0} bytes of device memory; it must allocate none")]
    Allocates(usize),
    /// A file or folder that can't be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A file whose contents are not valid.
    #[error("{0}: {1}")]
    Json(PathBuf, serde_json::Error),
    /// An unknown op name.
    #[error("`--op {0}`: unknown op; it must be one of {1}")]
    UnknownOp(String, String),
    /// A folder without results.
    #[error("{0} has no {1}; run `gpu-check {2}` on a device to write it")]
    NothingThere(PathBuf, &'static str, &'static str),
    /// Some checks failed. Holds the number of failed checks.
    #[error("{0} checks failed: the bits differ from the CPU's, or the check did not finish")]
    OtherBits(usize),
}

impl Error {
    /// Returns whether this process can't use the device any more.
    pub fn is_of_device(&self) -> bool {
        use evenkeel::Error::{Failed, Unavailable};
        matches!(self, Error::Driver(_) | Error::Evenkeel(Failed { .. } | Unavailable { .. }))
    }
}

pub type Result<T> = std::result::Result<T, Error>;
