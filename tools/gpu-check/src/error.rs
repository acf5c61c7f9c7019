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
    /// A kernel wrote outside an operand or a result.
    #[error("a kernel wrote outside a buffer, at element {0} counted from the start of the buffer")]
    WroteBeside(i64),
    /// A kernel changed an operand that it must only read. Holds a description of the change.
    #[error("a kernel changed an operand: {0}")]
    ChangedOperand(String),
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
    #[error(
        "{0} checks failed: the bits differ from the CPU's, the CPU refused the arguments, or the check did not finish"
    )]
    OtherBits(usize),
    /// Some calls have no timing. Holds their number.
    #[error("{0} timings are missing, because a call failed or did not end; the file of `--out` has the reasons")]
    NotTimed(usize),
}

impl Error {
    /// Returns whether the values of the operands cause this error. Any other error of the CPU means invalid arguments.
    pub fn is_of_values(&self) -> bool {
        use evenkeel::Error::{FullyMasked, NonFiniteInput};
        matches!(self, Error::Evenkeel(FullyMasked { .. } | NonFiniteInput { .. }))
    }

    /// Returns whether this process can't use the device any more.
    pub fn is_of_device(&self) -> bool {
        use evenkeel::Error::{Failed, Unavailable};
        matches!(self, Error::Driver(_) | Error::Evenkeel(Failed { .. } | Unavailable { .. }))
    }
}

pub type Result<T> = std::result::Result<T, Error>;
