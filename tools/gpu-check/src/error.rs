//! Why something could not be done.

use evenkeel::cuda::cudarc::driver::DriverError;
use std::path::PathBuf;

/// Why a command ends without what it is for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the library: no device among others.
    #[error("{0}")]
    Evenkeel(#[from] evenkeel::Error),
    /// Of the driver, when memory was asked for or copied.
    #[error("the driver: {0:?}")]
    Driver(#[from] DriverError),
    /// A kernel wrote where nothing was to be written.
    #[error("element {0} was written, counted from the start of the results")]
    WroteBeside(i64),
    /// An op that had run on a stream at a size took memory again, so many bytes.
    #[error("{0} bytes of the device's memory were asked for in a second call")]
    Allocates(usize),
    /// A file or folder.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// What is in a file.
    #[error("{0}: {1}")]
    Json(PathBuf, serde_json::Error),
    /// An op's name.
    #[error("--op {0}: there is no such op; there are: {1}")]
    UnknownOp(String, String),
    /// A folder without results.
    #[error("{0}: there is no {1}, which `gpu-check {2}` writes on a device")]
    NothingThere(PathBuf, &'static str, &'static str),
    /// The checks that failed.
    #[error("{0} checks found other bits than the CPU's, or did not end")]
    OtherBits(usize),
}

impl Error {
    /// Whether the device can be of no more use to this process.
    pub fn is_of_device(&self) -> bool {
        matches!(self, Error::Driver(_) | Error::Evenkeel(evenkeel::Error::Backend { .. }))
    }
}

pub type Result<T> = std::result::Result<T, Error>;
