//! Compiled programs, kept in files: compiling takes minutes.

#![forbid(unsafe_code)]

use super::compiler::{Compiler, Target};
use super::fault::Result;
use super::neff;
use super::program::Program;
use super::settings;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes of a SHA-256, which an entry starts with.
const SUM: usize = 32;

/// A folder of NEFFs, by the SHA-256 of program, compiler and flags. Processes may share it: entries are replaced
/// whole, and while one process compiles a program, others wait for it rather than compile it too.
///
/// An entry is the SHA-256 of a NEFF and the NEFF. One that is damaged, or whose header does not fit, is compiled anew
/// and replaced. Where the folder can't be used, programs are compiled and not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// The folder that `EVENKEEL_NEURON_CACHE` names, or `evenkeel/neuron` in the user's cache folder.
    pub fn from_env() -> Self {
        let users = || {
            let caches = settings::path("XDG_CACHE_HOME").map(PathBuf::from);
            let caches = caches.or_else(|| Some(PathBuf::from(settings::path("HOME")?).join(".cache")));
            Some(caches?.join("evenkeel").join("neuron"))
        };
        Cache { folder: settings::path(settings::CACHE).map(PathBuf::from).or_else(users) }
    }

    /// This folder, which need not be there yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Cache { folder: Some(folder.into()) }
    }

    /// The NEFF of a program: the one that is kept, or else a new one, which is kept then.
    ///
    /// # Errors
    /// Those of [`Compiler::compile`].
    pub fn neff(&self, compiler: &Compiler, program: &Program, target: Target) -> Result<Vec<u8>> {
        let Some(folder) = &self.folder else { return compiler.compile(program, target) };
        let name = key(compiler, program, target);
        let entry = folder.join(format!("{name}.neff"));
        if let Some(neff) = read(&entry, target) {
            return Ok(neff);
        }
        // Until this function returns, or the process ends. Where files can't be locked, both compile.
        let lock = fs::create_dir_all(folder).and_then(|()| File::create(folder.join(format!("{name}.lock"))));
        if let Ok(lock) = &lock
            && lock.lock().is_ok()
            && let Some(neff) = read(&entry, target)
        {
            return Ok(neff);
        }
        let neff = compiler.compile(program, target)?;
        // What can't be kept is compiled again the next time.
        let _ = write(folder, &entry, &neff);
        Ok(neff)
    }

    /// Has a program compiled anew the next time.
    pub fn forget(&self, compiler: &Compiler, program: &Program, target: Target) {
        if let Some(folder) = &self.folder {
            // It may not be there.
            let _ = fs::remove_file(folder.join(format!("{}.neff", key(compiler, program, target))));
        }
    }
}

/// What an entry is called: two programs, compilers or sets of flags have two names.
fn key(compiler: &Compiler, program: &Program, target: Target) -> String {
    let flags = compiler.flags(target);
    let parts = [compiler.form().of(program), compiler.version().as_bytes(), &[target.logical_cores()]];
    let sum = sum_of(parts.into_iter().chain(flags.iter().map(String::as_bytes)));
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What tells a program from others, in both forms.
pub(super) fn program_sum(program: &Program) -> [u8; SUM] {
    sum_of([program.hlo(), program.stablehlo().as_bytes()].into_iter())
}

/// The sum of parts, each with its length, so that none can be part of its neighbour.
fn sum_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; SUM] {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update((part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    sum.finalize().into()
}

/// The NEFF of an entry, if it is there, whole and for this target.
fn read(entry: &Path, target: Target) -> Option<Vec<u8>> {
    let mut neff = fs::read(entry).ok()?;
    if neff.len() < SUM {
        return None;
    }
    let sum: Vec<u8> = neff.drain(..SUM).collect();
    let whole = Sha256::digest(&neff)[..] == sum[..] && neff::is_whole(&neff, target.logical_cores()).is_ok();
    whole.then_some(neff)
}

/// Replaces an entry by rename, so that no process sees half of it.
fn write(folder: &Path, entry: &Path, neff: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(&Sha256::digest(neff))?;
    file.write_all(neff)?;
    file.as_file().sync_all()?;
    file.persist(entry)?;
    Ok(())
}
