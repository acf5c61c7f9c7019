//! What is written down on the device's machine, and read again for the report.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// The device, as it tells itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    pub compute_capability: String,
    pub multiprocessors: i32,
    pub memory: usize,
    /// What nvidia-smi says of the driver and the highest clocks, if it is there.
    pub driver: String,
}

/// An op's results in one type, compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub op: String,
    pub dtype: String,
    pub cases: usize,
    pub elements: usize,
    /// Cases with other bits than the CPU's, or another error.
    pub mismatches: usize,
    pub first: Option<String>,
    /// Why not all cases were run, if they were not. As long as it is at it, that is what stands here.
    pub stopped: Option<String>,
    /// Of the CPU's results.
    pub digest: String,
    pub seconds: f64,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// None where only the CPU's digests were made.
    pub device: Option<Device>,
    /// Which sources the program was built of.
    pub build: String,
    pub seed: u64,
    pub part: usize,
    pub elements: usize,
    pub checks: Vec<Check>,
}

/// How long one call takes, in µs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    pub op: String,
    pub dtype: String,
    pub rows: usize,
    pub cols: usize,
    /// Whose it is.
    #[serde(default = "ours")]
    pub by: String,
    /// What the op reads and writes at least.
    #[serde(default)]
    pub bytes: usize,
    /// The median of the batches, and the fastest and the slowest of them.
    pub us: f64,
    pub fastest: f64,
    pub slowest: f64,
    /// A copy that reads and writes as many bytes together.
    #[serde(default)]
    pub copy_us: f64,
    /// What is wrong with it.
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
    /// Versions of what was timed.
    #[serde(default)]
    pub versions: Vec<String>,
    pub timings: Vec<Timing>,
    /// What there was no time for, or no memory.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// A step of the run, as the script tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub status: i32,
    pub seconds: u64,
}

/// Writes a file that is whole or not there.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let told = |error| Error::File(path.to_path_buf(), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(told)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(told)?;
    file.write_all(text.as_bytes()).map_err(told)?;
    file.persist(path).map_err(|error| told(error.error))?;
    Ok(())
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Json(path.to_path_buf(), error))?;
    write(path, &(text + "\n"))
}

/// What a file has, or none where there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::File(path.to_path_buf(), error))?,
    };
    serde_json::from_str(&text).map(Some).map_err(|error| Error::Json(path.to_path_buf(), error))
}

/// A digest of words, one after the other.
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
