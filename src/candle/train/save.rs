//! Atomic saving of tensors to a file, after a check that all values are finite.

use crate::candle::guarded;
use crate::error::{Error, Result, Source};
use candle_core::Tensor;
use std::collections::HashMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Name of the metadata in a safetensors file. A tensor with this name would make the file unreadable.
const RESERVED: &str = "__metadata__";

/// Writes named tensors to a safetensors file.
///
/// All floats are checked first. If a float is NaN or infinite, nothing is written, and an existing file is unchanged.
/// The new file is written to the same folder under a temporary name, synced to the disk, and then renamed. So a file
/// at this path is always complete, even if the program is killed.
///
/// # Errors
/// [`Error::Unsaved`] if a tensor is not finite or has the name `__metadata__`, or if writing failed. The error names
/// the first such tensor in the order of names, or the reason for the failure. [`Error::UnsupportedDType`] for a float
/// type that Evenkeel does not support.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::train::save;
/// use std::collections::HashMap;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("model.safetensors");
/// let good = HashMap::from([("weight".to_string(), Tensor::new(&[1f32, 2.], &Device::Cpu)?)]);
/// save(&good, &path)?;
///
/// let bad = HashMap::from([("weight".to_string(), Tensor::new(&[1f32, f32::NAN], &Device::Cpu)?)]);
/// let error = save(&bad, &path).unwrap_err().to_string();
/// assert!(error.ends_with("model.safetensors was not saved: \
///     weight has 1 NaN and 0 infinite values in 2 elements; the first is at index 1"), "{error}");
/// assert_eq!(candle_core::safetensors::load(&path, &Device::Cpu)?["weight"].to_vec1::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn save(tensors: &HashMap<String, Tensor>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let unsaved = |reason, source| Error::Unsaved { path: path.display().to_string(), reason, source };
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort();
    for name in names {
        if name == RESERVED {
            return Err(unsaved(format!("the name {RESERVED} is reserved for the file's metadata"), None));
        }
        let tensor = &tensors[name];
        if !tensor.dtype().is_float() {
            continue;
        }
        let found = guarded::finite(tensor)?;
        if let Some(first) = found.first {
            let (nan, infinite, count) = (found.nan, found.infinite, found.count);
            let what = format!(
                "{name} has {nan} NaN and {infinite} infinite values in {count} elements; the first is at index {first}"
            );
            return Err(unsaved(what, None));
        }
    }
    write(tensors, path).map_err(|error| unsaved(error.to_string(), Some(Source::new(error))))
}

/// Writes a new file beside the path, syncs it to the disk, and renames it.
fn write(tensors: &HashMap<String, Tensor>, path: &Path) -> candle_core::Result<()> {
    let (beside, permissions) = create_beside(path)?;
    let written = || {
        candle_core::safetensors::save(tensors, &beside)?;
        // Windows syncs only files that are open for writing.
        OpenOptions::new().write(true).open(&beside)?.sync_all()?;
        // Restores the default permissions, because the safetensors writer creates files that only their owner can
        // read.
        fs::set_permissions(&beside, permissions)?;
        Ok(fs::rename(&beside, path)?)
    };
    written().inspect_err(|_| {
        // The caller gets the error of the write, which is the first one.
        let _ = fs::remove_file(&beside);
    })
}

/// Creates a new file in the folder of `path`. Returns the path and the default permissions of the new file.
fn create_beside(path: &Path) -> io::Result<(PathBuf, Permissions)> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}-{}.part", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed)));
        let beside = path.with_file_name(name);
        // Another process may have the same number, in another container for example. Its file must not be overwritten.
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((beside, file.metadata()?.permissions())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error),
        }
    }
}
