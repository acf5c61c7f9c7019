//! Atomic writes: a file appears complete or not at all.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Writes a temporary file in the target's folder and renames it to the target.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().permissions(permissions()).tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Error::file(path, source))
}

/// Returns the permissions of an ordinary new file. A temporary file is readable by its owner only, but everyone may
/// read the files that this module writes.
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
