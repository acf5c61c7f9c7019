//! Tensors into a file, whole and finite or not at all.

use crate::candle::guarded;
use crate::error::{Error, Result};
use candle_core::Tensor;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes tensors to a safetensors file, by their names.
///
/// Every float is looked at first: what holds a NaN or an infinity is not written, and the file that was there stays. The
/// new one is written beside it, brought to the disk, and then renamed into its place, so that there is one whole file at
/// any moment, whatever becomes of the program.
///
/// # Errors
/// [`Error::Unsaved`] with the first tensor, by name, that is not finite, or with what kept the file from being written.
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
/// assert!(error.ends_with("model.safetensors is not written: weight has 1 NaN and 0 infinite of 2, the first at 1"), "{error}");
/// assert_eq!(candle_core::safetensors::load(&path, &Device::Cpu)?["weight"].to_vec1::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn save(tensors: &HashMap<String, Tensor>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let unsaved = |reason: String| Error::Unsaved { path: path.display().to_string(), reason };
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
            let what = format!("{name} has {nan} NaN and {infinite} infinite of {count}, the first at {first}");
            return Err(unsaved(what));
        }
    }
    let beside = beside(path);
    write(tensors, &beside).and_then(|()| Ok(fs::rename(&beside, path)?)).map_err(|error| {
        // It may never have been there.
        let _ = fs::remove_file(&beside);
        unsaved(error.to_string())
    })
}

/// Writes a file, which is on the disk when this returns.
fn write(tensors: &HashMap<String, Tensor>, path: &Path) -> candle_core::Result<()> {
    // What writes it makes files that only their owner can read; it is to be like any other.
    let permissions = File::create(path)?.metadata()?.permissions();
    candle_core::safetensors::save(tensors, path)?;
    fs::set_permissions(path, permissions)?;
    Ok(File::open(path)?.sync_all()?)
}

/// A name of this call alone, in the same folder.
fn beside(path: &Path) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.part", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}
