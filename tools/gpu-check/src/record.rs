//! Records that are written on the device's machine and read again for the report.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// Properties that the device reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    pub compute_capability: String,
    pub multiprocessors: i32,
    pub memory: usize,
    /// Output of nvidia-smi about the driver and the highest clock rates; empty if nvidia-smi is missing.
    pub driver: String,
}

/// Comparison of one op's results in one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub op: String,
    pub dtype: String,
    pub cases: usize,
    pub elements: usize,
    /// Number of cases whose bits or error differ from the CPU's, or whose arguments the CPU refused.
    pub mismatches: usize,
    pub first: Option<String>,
    /// Reason why some cases have not run, or `None` if all have. It is also set while a check runs.
    pub stopped: Option<String>,
    /// Digest of the CPU's results.
    pub digest: String,
    pub seconds: f64,
}

/// Comparisons of all ops by one build of the program, and the parameters of their cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// The device, or `None` if only the CPU's digests were made.
    pub device: Option<Device>,
    /// Identifier of the sources from which the program was built.
    pub build: String,
    pub seed: u64,
    pub part: usize,
    pub elements: usize,
    pub checks: Vec<Check>,
}

/// Duration of one call, in µs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    pub op: String,
    pub dtype: String,
    pub rows: usize,
    pub cols: usize,
    /// Library that was timed.
    #[serde(default = "ours")]
    pub by: String,
    /// Smallest number of bytes that the op has to read and write.
    #[serde(default)]
    pub bytes: usize,
    /// Median of the batches. The two fields below are the fastest and the slowest batch.
    pub us: f64,
    pub fastest: f64,
    pub slowest: f64,
    /// Duration of a copy whose reads and writes together move `bytes` bytes.
    #[serde(default)]
    pub copy_us: f64,
    /// Problem that makes the timing unreliable, or the op's error.
    pub trouble: Option<String>,
}

pub const OURS: &str = "evenkeel";

fn ours() -> String {
    OURS.to_string()
}

/// Timings of one program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    #[serde(default)]
    pub device: Device,
    /// Versions of the timed libraries.
    #[serde(default)]
    pub versions: Vec<String>,
    pub timings: Vec<Timing>,
    /// Cases that were skipped for lack of time or memory.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// One step of a run, as `scripts/gpu-check` records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub status: i32,
    pub seconds: u64,
}

/// Writes a file atomically.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let describe = |error| Error::File(path.to_path_buf(), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(describe)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(describe)?;
    file.write_all(text.as_bytes()).map_err(describe)?;
    file.persist(path).map_err(|error| describe(error.error))?;
    Ok(())
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Json(path.to_path_buf(), error))?;
    write(path, &(text + "\n"))
}

/// Reads a JSON file, or returns `None` if the file does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::File(path.to_path_buf(), error))?,
    };
    serde_json::from_str(&text).map(Some).map_err(|error| Error::Json(path.to_path_buf(), error))
}

/// Digest of a sequence of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    pub const NEW: Digest = Digest(0xcbf2_9ce4_8422_2325);

    pub fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub fn of_text(text: &str) -> u64 {
        let mut digest = Digest::NEW;
        text.bytes().for_each(|byte| digest.add(byte.into()));
        digest.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
