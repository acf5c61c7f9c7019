//! Output file OUT: written to a temporary file in the same folder, then renamed.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Path of the output file, checked to be writable.
pub struct Out {
    path: PathBuf,
    folder: PathBuf,
}

impl Out {
    /// Checks that a file can be written at `path`. Programs call this before their work, so that they fail early.
    pub fn new(path: &Path) -> Result<Self> {
        // Renaming a file to the path of a device or a pipe would replace the device or the pipe.
        if path.exists() && !path.is_file() {
            bail!("can't write {}: it exists and is not a regular file", path.display());
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if path.file_name().is_none() || !folder.is_dir() {
            bail!("can't write {}: {} is not a folder", path.display(), folder.display());
        }
        Ok(Out { path: path.to_path_buf(), folder })
    }

    /// Writes the bytes to a temporary file in the folder of OUT.
    pub fn write(&self, bytes: &[u8]) -> Result<Written<'_>> {
        let mut file = self.builder().tempfile_in(&self.folder).with_context(|| self.cannot())?;
        file.write_all(bytes).and_then(|()| file.flush()).with_context(|| self.cannot())?;
        Ok(Written { out: self, file })
    }

    /// Returns a builder of files with ordinary permissions. By default only the owner can read a temporary file.
    fn builder(&self) -> tempfile::Builder<'static, 'static> {
        #[allow(unused_mut)]
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder
    }

    fn cannot(&self) -> String {
        format!("can't write {}", self.path.display())
    }
}

/// Temporary file with the complete contents of OUT. Dropping it removes the file.
pub struct Written<'a> {
    out: &'a Out,
    file: NamedTempFile,
}

impl Written<'_> {
    /// Renames the temporary file to OUT.
    pub fn rename(self) -> Result<()> {
        let persisted = self.file.persist(&self.out.path).map_err(|e| e.error);
        persisted.map(|_| ()).with_context(|| self.out.cannot())
    }
}
