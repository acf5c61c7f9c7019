//! Progress of a walk, stored in a file so that the walk can resume.

use crate::atomic;
use crate::error::{Error, Result};
use crate::function::Function;
use crate::provenance::Provenance;
use crate::tally::Tally;
use crate::walk::CHUNKS;
use evenkeel::simd::Level;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Progress of a started walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Name of the function.
    pub function: String,
    /// Name of the instruction set.
    pub simd: String,
    /// Sampling interval: of every `sample` blocks, one is walked.
    pub sample: NonZeroU32,
    /// Number of finished chunks.
    pub chunks: u32,
    /// Time spent on the finished chunks, in seconds.
    pub seconds: f64,
    /// Versions of the library and of the references.
    pub provenance: Provenance,
    /// Results of the finished chunks.
    pub tally: Tally,
}

impl Progress {
    /// Returns a walk with no finished chunks.
    pub fn new(function: &Function, level: Level, sample: NonZeroU32) -> Self {
        Progress {
            function: function.name.into(),
            simd: level.name().into(),
            sample,
            chunks: 0,
            seconds: 0.0,
            provenance: Provenance::of_this_program(),
            tally: Tally::default(),
        }
    }

    /// Returns the path of the walk's file in a folder.
    pub fn path(&self, folder: &Path) -> PathBuf {
        let Progress { function, simd, sample, .. } = self;
        folder.join(match sample.get() {
            1 => format!("{function}-{simd}.toml"),
            sample => format!("{function}-{simd}-1-in-{sample}.toml"),
        })
    }

    /// Returns the stored progress of this walk, or `self` if none is stored.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file does not hold this walk, [`Error::Stale`] if its versions differ. The file is
    /// left unchanged in both cases.
    pub fn resumed(self, folder: &Path) -> Result<Self> {
        let path = self.path(folder);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(self),
            Err(source) if source.kind() == ErrorKind::InvalidData => return Err(Error::damaged(&path, source)),
            Err(source) => return Err(Error::file(&path, source)),
        };
        let stored: Progress = toml::from_str(&text).map_err(|reason| Error::damaged(&path, reason.message()))?;
        let is_same = (&stored.function, &stored.simd, stored.sample) == (&self.function, &self.simd, self.sample);
        if !is_same || stored.chunks > CHUNKS {
            return Err(Error::damaged(
                &path,
                format!(
                    "its function, instruction set and sample must be those in the file's name, and at most {CHUNKS} \
                     chunks may be finished"
                ),
            ));
        }
        if stored.provenance != self.provenance {
            let [begun, now] = [stored.provenance, self.provenance].map(|provenance| provenance.to_string());
            return Err(Error::Stale { path, begun, now });
        }
        Ok(stored)
    }

    /// Stores the progress in a folder.
    pub fn store(&self, folder: &Path) -> Result<()> {
        let path = self.path(folder);
        let text = toml::to_string(self).map_err(|reason| Error::damaged(&path, reason))?;
        atomic::write(&path, &text)
    }

    /// Removes the progress file from a folder.
    pub fn remove(&self, folder: &Path) -> Result<()> {
        let path = self.path(folder);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::file(&path, source)),
            _ => Ok(()),
        }
    }
}
