//! Where records go.

use super::record::Record;
use std::fmt::Debug;
use std::io;

/// A place for the records of a run, one by one.
pub trait Sink: Debug + Send {
    /// What it is called in errors.
    fn name(&self) -> String;
    /// Takes a record up: when this returns it is kept, whatever becomes of the program.
    ///
    /// # Errors
    /// Whatever kept it from that.
    fn record(&mut self, record: &Record) -> io::Result<()>;
}
