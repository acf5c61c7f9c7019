//! Destinations of training records.

use super::record::Record;
use std::fmt::Debug;
#[cfg(any(feature = "jsonl", feature = "tensorboard"))]
use std::fs::{File, OpenOptions};
use std::io;
#[cfg(any(feature = "jsonl", feature = "tensorboard"))]
use std::io::Write;
#[cfg(any(feature = "jsonl", feature = "tensorboard"))]
use std::path::Path;

/// Destination for the records of a run.
pub trait Sink: Debug + Send {
    /// Returns the name that identifies the sink in error messages.
    fn name(&self) -> String;
    /// Writes a record. Once this method returns, the record must not be lost if the program ends.
    ///
    /// # Errors
    /// Any error that prevents the write.
    fn record(&mut self, record: &Record) -> io::Result<()>;
}

/// Appends bytes to the file at `path`. If not all bytes can be written, as on a full disk, the file gets back its
/// former length. A later record then does not follow a part of this one.
#[cfg(any(feature = "jsonl", feature = "tensorboard"))]
pub(super) fn append(path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // Windows permits no other length through a handle that appends. The caller gets the error of the write, which
        // is the first one.
        let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(length));
    })
}
