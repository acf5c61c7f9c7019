//! How far a walk has come, kept in a file so that it can go on.

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

/// A walk that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The function.
    pub function: String,
    /// The name of the instruction set.
    pub simd: String,
    /// One block in so many is walked.
    pub sample: NonZeroU32,
    /// Chunks that are done.
    pub chunks: u32,
    /// Time that they took.
    pub seconds: f64,
    /// What is compared with what.
    pub provenance: Provenance,
    /// What they gave.
    pub tally: Tally,
}

impl Progress {
    /// A walk of which nothing is done.
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

    /// Where the walk is kept in a folder.
    pub fn path(&self, folder: &Path) -> PathBuf {
        let Progress { function, simd, sample, .. } = self;
        folder.join(match sample.get() {
            1 => format!("{function}-{simd}.toml"),
            sample => format!("{function}-{simd}-1-in-{sample}.toml"),
        })
    }

    /// The same walk as far as the folder has it, or else this one.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a file that is not such a walk, [`Error::Stale`] for one of other versions. Both are left
    /// as they are.
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
            return Err(Error::damaged(&path, "it holds another walk than its name says"));
        }
        if stored.provenance != self.provenance {
            let [begun, now] = [stored.provenance, self.provenance].map(|provenance| provenance.to_string());
            return Err(Error::Stale { path, begun, now });
        }
        Ok(stored)
    }

    /// Keeps it in the folder.
    pub fn store(&self, folder: &Path) -> Result<()> {
        let path = self.path(folder);
        let text = toml::to_string(self).map_err(|reason| Error::damaged(&path, reason))?;
        atomic::write(&path, &text)
    }

    /// Removes it from the folder.
    pub fn remove(&self, folder: &Path) -> Result<()> {
        let path = self.path(folder);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::file(&path, source)),
            _ => Ok(()),
        }
    }
}
