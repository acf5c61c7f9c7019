//! Training records as JSON lines.

use super::append::append;
use super::record::Record;
use super::sink::Sink;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A file with one line of JSON per record.
///
/// ```
/// use evenkeel::train::{Jsonl, Monitor, Step};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("run.jsonl");
/// let mut monitor = Monitor::default().sink(Jsonl::append(&path)?);
/// monitor.record(Step::new(7, 0.25).norm(1.5), Vec::new())?;
/// let line = std::fs::read_to_string(&path)?;
/// assert_eq!(line, "{\"step\":7,\"loss\":0.25,\"norm\":1.5,\"skipped\":false}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Jsonl {
    path: PathBuf,
    file: File,
    every: u64,
}

impl Jsonl {
    /// Opens a file to append records, and creates the file if it does not exist. No other program may write to the
    /// file at the same time. If the file ends within a line, as after a killed run, a line break is added, so that the
    /// next record starts a new line.
    ///
    /// # Errors
    /// The errors of opening the file for writing and for reading, and of adding the line break.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_path_buf();
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        if ends_within_a_line(&path, &file)? {
            append(&path, &mut file, b"\n")?;
        }
        Ok(Jsonl { path, file, every: 1 })
    }

    /// Sets the interval between written steps: a step is written if its number is a multiple of `steps`. With 0, only
    /// step 0 is written. Skipped steps, and steps with warnings or layers, are always written.
    pub fn every(self, steps: u64) -> Self {
        Self { every: steps, ..self }
    }
}

/// Returns whether a file is not empty and does not end in a line break. Returns `false` for a device or a pipe.
fn ends_within_a_line(path: &Path, file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    let mut reader = File::open(path)?;
    reader.seek(SeekFrom::End(-1))?;
    reader.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

impl Sink for Jsonl {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        let Record { step, layers, warnings } = record;
        if !step.skipped && warnings.is_empty() && layers.is_empty() && !step.step.is_multiple_of(self.every) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        append(&self.path, &mut self.file, &line)
    }
}
