//! File cache of compiled programs, because compiling takes minutes.

#![forbid(unsafe_code)]

use super::compiler::{Compiler, Target};
use super::neff;
use super::program::Program;
use super::settings;
use crate::error::fault::Result;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Length in bytes of the SHA-256 that begins each entry.
const SUM: usize = 32;

/// A folder of NEFFs, the compiler's output files. Each entry is named by the SHA-256 of its program, compiler and
/// flags. Processes may share the folder. Entries are replaced atomically, and while one process compiles a program,
/// other processes wait for the result.
///
/// An entry consists of the SHA-256 of a NEFF and the NEFF itself. An entry is compiled again and replaced if it is
/// damaged, or if its NEFF's header states the wrong size or target. If the folder cannot be used, programs are
/// compiled but not cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// Returns the cache in the folder that `EVENKEEL_NEURON_CACHE` names. If this variable is not set, the folder is
    /// `evenkeel/neuron` in the user's cache folder.
    pub fn from_env() -> Self {
        let users = || {
            let caches = settings::path("XDG_CACHE_HOME").map(PathBuf::from);
            let caches = caches.or_else(|| Some(PathBuf::from(settings::path("HOME")?).join(".cache")));
            Some(caches?.join("evenkeel").join("neuron"))
        };
        Cache { folder: settings::path(settings::CACHE).map(PathBuf::from).or_else(users) }
    }

    /// Returns the cache in this folder, which is created when first needed.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Cache { folder: Some(folder.into()) }
    }

    /// Returns the NEFF of a program from the cache, or compiles it and adds it to the cache.
    ///
    /// # Errors
    /// The errors of [`Compiler::compile`].
    pub fn neff(&self, compiler: &Compiler, program: &Program, target: Target) -> Result<Vec<u8>> {
        let Some(folder) = &self.folder else { return compiler.compile(program, target) };
        let name = key(compiler, program, target);
        let entry = folder.join(format!("{name}.neff"));
        if let Some(neff) = read(&entry, target) {
            return Ok(neff);
        }
        // Hold the lock until this function returns or the process ends. If no lock can be created, several processes
        // may compile the same program.
        let lock = fs::create_dir_all(folder).and_then(|()| File::create(folder.join(format!("{name}.lock"))));
        if let Ok(lock) = &lock
            && lock.lock().is_ok()
            && let Some(neff) = read(&entry, target)
        {
            return Ok(neff);
        }
        let neff = compiler.compile(program, target)?;
        // If the NEFF cannot be cached, the program is compiled again next time.
        let _ = write(folder, &entry, &neff);
        Ok(neff)
    }

    /// Removes the program's entry, so that the program is compiled again next time.
    pub fn forget(&self, compiler: &Compiler, program: &Program, target: Target) {
        if let Some(folder) = &self.folder {
            // An error is ignored, because the entry may not exist.
            let _ = fs::remove_file(folder.join(format!("{}.neff", key(compiler, program, target))));
        }
    }
}

/// Returns the name of an entry. Different programs, compilers or flags give different names.
fn key(compiler: &Compiler, program: &Program, target: Target) -> String {
    let flags = compiler.flags(target);
    let parts = [compiler.form().of(program), compiler.version().as_bytes(), &[target.logical_cores()]];
    let sum = sum_of(parts.into_iter().chain(flags.iter().map(String::as_bytes)));
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a number that identifies a program: the hash of its HLO and StableHLO.
pub(super) fn program_sum(program: &Program) -> [u8; SUM] {
    sum_of([program.hlo(), program.stablehlo().as_bytes()].into_iter())
}

/// Returns the hash of several parts. Each part's length is hashed too, so that moving bytes between parts changes the
/// hash.
fn sum_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; SUM] {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update((part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    sum.finalize().into()
}

/// Returns the NEFF of an entry if it exists, is undamaged and is for this target.
fn read(entry: &Path, target: Target) -> Option<Vec<u8>> {
    let mut neff = fs::read(entry).ok()?;
    if neff.len() < SUM {
        return None;
    }
    let sum: Vec<u8> = neff.drain(..SUM).collect();
    let whole = Sha256::digest(&neff)[..] == sum[..] && neff::is_whole(&neff, target.logical_cores()).is_ok();
    whole.then_some(neff)
}

/// Replaces an entry by renaming, so that no process sees a partial file.
fn write(folder: &Path, entry: &Path, neff: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(&Sha256::digest(neff))?;
    file.write_all(neff)?;
    file.as_file().sync_all()?;
    file.persist(entry)?;
    Ok(())
}
