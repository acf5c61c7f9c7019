//! Appending of records to files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Appends bytes to the file at `path`. If not all bytes can be written, as on a full disk, the file gets back its
/// former length. A later record then does not follow a part of this one.
pub fn append(path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // Windows permits no other length through a handle that appends. The caller gets the error of the write, which
        // is the first one.
        let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(length));
    })
}
