//! OUT: written beside its place, then renamed into it.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A place that can be written.
pub struct Out {
    path: PathBuf,
    folder: PathBuf,
}

impl Out {
    /// Refuses, before any work is done, what can't be replaced by a file.
    pub fn new(path: &Path) -> Result<Self> {
        // A rename over a device or a pipe would remove it.
        if path.exists() && !path.is_file() {
            bail!("can't write {}: it is there, and not a file", path.display());
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

    /// Writes the bytes beside their place.
    pub fn write(&self, bytes: &[u8]) -> Result<Written<'_>> {
        let mut file = self.builder().tempfile_in(&self.folder).with_context(|| self.cannot())?;
        file.write_all(bytes).and_then(|()| file.flush()).with_context(|| self.cannot())?;
        Ok(Written { out: self, file })
    }

    /// Temporary files are their owner's alone by default; OUT is like any other file.
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

/// A file that has everything but its name; dropped, it is removed.
pub struct Written<'a> {
    out: &'a Out,
    file: NamedTempFile,
}

impl Written<'_> {
    /// Puts it in its place.
    pub fn rename(self) -> Result<()> {
        let persisted = self.file.persist(&self.out.path).map_err(|e| e.error);
        persisted.map(|_| ()).with_context(|| self.out.cannot())
    }
}
