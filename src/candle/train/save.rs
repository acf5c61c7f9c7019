//! Atomic saving of tensors to a file, after a check that all values are finite.

use crate::candle::guarded;
use crate::error::{Error, Result, Source};
use candle_core::Tensor;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes named tensors to a safetensors file.
///
/// All floats are checked first. If a float is NaN or infinite, nothing is written, and an existing file is unchanged.
/// The new file is written to the same folder under a temporary name, synced to the disk, and then renamed. So a file
/// at this path is always complete, even if the program is killed.
///
/// # Errors
/// [`Error::Unsaved`] if a tensor is not finite, or if writing failed. The error names the first such tensor in the
/// order of names, or the reason for the failure. [`Error::UnsupportedDType`] for a float type that Evenkeel does not
/// support.
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
    let beside = beside(path);
    write(tensors, &beside).and_then(|()| Ok(fs::rename(&beside, path)?)).map_err(|error| {
        // Errors of the removal are ignored, because the temporary file may not exist.
        let _ = fs::remove_file(&beside);
        unsaved(error.to_string(), Some(Source::new(error)))
    })
}

/// Writes a file and syncs it to the disk.
fn write(tensors: &HashMap<String, Tensor>, path: &Path) -> candle_core::Result<()> {
    // Restores the default permissions, because the safetensors writer creates files that only their owner can read.
    let permissions = File::create(path)?.metadata()?.permissions();
    candle_core::safetensors::save(tensors, path)?;
    fs::set_permissions(path, permissions)?;
    Ok(File::open(path)?.sync_all()?)
}

/// Returns a path in the same folder, different for each call.
fn beside(path: &Path) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.part", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}
