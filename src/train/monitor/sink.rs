//! Destinations of training records.

use super::record::Record;
use std::fmt::Debug;
use std::io;

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
