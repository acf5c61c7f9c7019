//! The header of a safetensors file. The file begins with eight bytes for the length of the header. The header is JSON
//! that describes each tensor.

use super::error::{Error, Result, shown};
use super::kind::Kind;
use super::tensor::{Tensor, size};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

/// Maximum length of a header in bytes, the same as in the safetensors library.
pub(crate) const LONGEST_HEADER: u64 = 100_000_000;

/// Returns the tensors of a file, in the order of their positions in the file.
pub(crate) fn read(path: &Path, number: usize, mut file: File, length: u64) -> Result<Vec<Tensor>> {
    let failed = |source| Error::read(path, "the header", source);
    let mut prefix = [0; 8];
    if length < 8 {
        return Err(Error::header(path, "the file's length", length, "at least 8 bytes, as both formats require"));
    }
    file.read_exact(&mut prefix).map_err(failed)?;
    let header = u64::from_le_bytes(prefix);
    let limit = (length - 8).min(LONGEST_HEADER);
    if header > limit {
        let reason =
            if limit == LONGEST_HEADER { "the longest supported" } else { "the number of bytes left in the file" };
        return Err(Error::header(path, "the header's length", header, format!("at most {limit}, {reason}")));
    }
    let mut json = vec![0; header as usize];
    file.read_exact(&mut json).map_err(failed)?;
    let entries: Entries<Entry, true> = serde_json::from_slice(&json).map_err(|e| {
        let reason =
            format!("the file is neither GGUF nor safetensors, because its header does not describe tensors: {e}");
        Error::format(path, reason)
    })?;
    let data = Data { path, number, start: 8 + header, length: length - 8 - header };
    data.tensors(entries.unique(path)?)
}

/// The bytes after the header.
struct Data<'a> {
    path: &'a Path,
    number: usize,
    start: u64,
    length: u64,
}

impl Data<'_> {
    /// Checks the tensors, and returns them in order of their position.
    ///
    /// The first tensor must start at offset 0. Each other tensor must start where the previous tensor ends. The last
    /// tensor must end where the file ends.
    fn tensors(&self, mut entries: Vec<(String, Entry)>) -> Result<Vec<Tensor>> {
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        let mut tensors = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let tensor = self.tensor(name, entry, end)?;
            end += tensor.bytes;
            tensors.push(tensor);
        }
        if end != self.length {
            let limit = format!("{end}, the end of the last tensor");
            return Err(Error::header(self.path, "the number of bytes after the header", self.length, limit));
        }
        Ok(tensors)
    }

    fn tensor(&self, name: String, entry: Entry, end_before: u64) -> Result<Tensor> {
        let refused = |field, value: String, limit: String| Err(Error::tensor(self.path, &name, field, value, limit));
        let Some(kind) = Kind::of_safetensors(&entry.dtype) else {
            return refused("the dtype", shown(&entry.dtype), "a type of safetensors".into());
        };
        let (elements, bytes) = size(self.path, &name, kind, &entry.shape)?;
        let [start, end] = entry.data_offsets;
        let offsets = || format!("{start}..{end}");
        if start > end {
            return refused("data_offsets", offsets(), "a range that does not end before it starts".into());
        }
        if end > self.length {
            return refused("data_offsets", offsets(), format!("within the {} bytes after the header", self.length));
        }
        if start < end_before {
            let limit = format!("a range that starts at {end_before}, where the previous tensor ends: they overlap");
            return refused("data_offsets", offsets(), limit);
        }
        if start > end_before {
            let limit = format!("a range that starts at {end_before}: there is a gap before the tensor");
            return refused("data_offsets", offsets(), limit);
        }
        if end - start != bytes {
            let limit = format!("a range of {bytes} bytes, the size of shape {:?} in {}", entry.shape, kind.name);
            return refused("data_offsets", offsets(), limit);
        }
        let start = self.start + start;
        Ok(Tensor { name, kind, shape: entry.shape, elements, file: self.number, start, bytes })
    }
}

/// Description of a tensor in the header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// JSON object with one value for each tensor. A name may occur several times. In a header, the metadata is left out.
pub(crate) struct Entries<T, const HEADER: bool>(Vec<(String, T)>);

impl<T, const HEADER: bool> Entries<T, HEADER> {
    /// Returns the names and values. Fails if a name is not unique.
    pub fn unique(self, path: &Path) -> Result<Vec<(String, T)>> {
        let mut names = HashSet::new();
        if let Some((name, _)) = self.0.iter().find(|(name, _)| !names.insert(name)) {
            return Err(Error::header(path, format!("the name {}", shown(name)), "duplicated", "unique"));
        }
        drop(names);
        Ok(self.0)
    }
}

impl<'de, T: Deserialize<'de>, const HEADER: bool> Deserialize<'de> for Entries<T, HEADER> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<T, const HEADER: bool>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const HEADER: bool> Visitor<'de> for EntriesVisitor<T, HEADER> {
    type Value = Entries<T, HEADER>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one value for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if HEADER && name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Entries(entries))
    }
}
