//! The header of a GGUF file, versions 2 and 3. The header describes the tensors. Of the metadata in the header, only
//! the alignment is used.

use super::error::{Error, Result, shown};
use super::kind::Kind;
use super::safetensors::LONGEST_HEADER;
use super::tensor::{Tensor, size};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// First bytes of a GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Maximum number of axes in ggml.
const MOST_AXES: u32 = 4;
/// Maximum length of a metadata key in the format, in bytes. The same limit is applied to tensor names, although the
/// format requires shorter names.
const LONGEST_NAME: u64 = 65_535;
/// Maximum supported depth of nested lists.
const DEEPEST: u32 = 8;
/// Alignment of files that do not specify an alignment.
const ALIGNMENT: u64 = 32;
/// Minimum size in bytes of a metadata entry: a key, a type and a value of one byte.
const SMALLEST_PAIR: u64 = 8 + 4 + 1;
/// Minimum size in bytes of a tensor's entry: a name, the number of axes, a type and an offset.
const SMALLEST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// Code of the string type in the metadata.
const STRING: u32 = 8;
/// Code of the list type in the metadata.
const ARRAY: u32 = 9;

/// Returns the tensors of a file, in the order of its header.
pub(crate) fn read(path: &Path, number: usize, file: File, length: u64) -> Result<Vec<Tensor>> {
    let mut header = Header { path, file: BufReader::new(file), at: 0, end: length.min(LONGEST_HEADER), length };
    header.skip(MAGIC.len() as u64, "the magic number")?;
    let version = header.u32("the version")?;
    if !(2..=3).contains(&version) {
        let big_endian = (2..=3).contains(&version.swap_bytes());
        let limit = if big_endian { "2 or 3; this file is big-endian" } else { "2 or 3" };
        return Err(Error::header(path, "the version", version, limit));
    }
    let tensors = header.count("the number of tensors", SMALLEST_TENSOR)?;
    let pairs = header.count("the number of metadata entries", SMALLEST_PAIR)?;
    let alignment = header.alignment(pairs)?;
    let listed = header.tensors(number, tensors)?;
    header.placed(listed, alignment)
}

struct Header<'a> {
    path: &'a Path,
    file: BufReader<File>,
    at: u64,
    /// Largest offset at which the header may end.
    end: u64,
    /// Length of the file.
    length: u64,
}

/// A tensor whose `start` is not set yet, with its offset in the file's data section.
type Listed = (Tensor, u64);

impl Header<'_> {
    /// Checks that at least `bytes` bytes of the header are left.
    fn has(&self, bytes: u64, what: &str) -> Result<()> {
        if bytes <= self.end - self.at {
            return Ok(());
        }
        let field = format!("the end of {what}");
        let why = if self.end == self.length { "the file's length" } else { "the longest supported header" };
        let limit = format!("at most {}, {why}", self.end);
        Err(Error::header(self.path, field, u128::from(self.at) + u128::from(bytes), limit))
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.has(N as u64, what)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|e| Error::read(self.path, what, e))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(what)?))
    }

    fn skip(&mut self, bytes: u64, what: &str) -> Result<()> {
        self.has(bytes, what)?;
        // The cast is exact: `bytes` is at most the length of the file, and an operating system stores lengths in an
        // i64.
        self.file.seek_relative(bytes as i64).map_err(|e| Error::read(self.path, what, e))?;
        self.at += bytes;
        Ok(())
    }

    /// Reads a number of items, and checks that this many items fit into the rest of the header. An item takes at least
    /// `smallest` bytes.
    fn count(&mut self, what: &str, smallest: u64) -> Result<u64> {
        let count = self.u64(what)?;
        let most = (self.end - self.at) / smallest;
        if count > most {
            let limit = format!("at most {most}, the number that fits into the rest of the header");
            return Err(Error::header(self.path, what, count, limit));
        }
        Ok(count)
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.count(&format!("the length of {what}"), 1)?;
        if length > LONGEST_NAME {
            let limit = format!("at most {LONGEST_NAME}, the longest supported");
            return Err(Error::header(self.path, format!("the length of {what}"), length, limit));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(|e| Error::read(self.path, what, e))?;
        self.at += length;
        String::from_utf8(bytes).map_err(|e| {
            let shown = shown(&String::from_utf8_lossy(e.as_bytes()));
            Error::header(self.path, what, shown, "UTF-8")
        })
    }

    /// Reads the metadata, and returns the alignment.
    fn alignment(&mut self, pairs: u64) -> Result<u64> {
        let mut keys = HashSet::new();
        let mut alignment = ALIGNMENT;
        for _ in 0..pairs {
            let key = self.text("a key of the metadata")?;
            let kind = self.u32("the type of a value")?;
            if key == "general.alignment" {
                alignment = self.aligned(kind)?;
            } else {
                self.skip_value(kind, &key, 0)?;
            }
            if let Some(key) = keys.replace(key) {
                return Err(Error::header(self.path, format!("the key {}", shown(&key)), "duplicated", "unique"));
            }
        }
        Ok(alignment)
    }

    fn aligned(&mut self, kind: u32) -> Result<u64> {
        const U32: u32 = 4;
        let limit = "a power of two of type u32 (4)";
        if kind != U32 {
            return Err(Error::header(self.path, "general.alignment", format!("of type {kind}"), limit));
        }
        match self.u32("general.alignment")? {
            alignment if alignment.is_power_of_two() => Ok(alignment.into()),
            other => Err(Error::header(self.path, "general.alignment", other, limit)),
        }
    }

    fn skip_value(&mut self, kind: u32, key: &str, depth: u32) -> Result<()> {
        let what = format!("the value of {}", shown(key));
        if let Some(bytes) = plain(kind) {
            return self.skip(bytes, &what);
        }
        match kind {
            STRING => {
                let length = self.count(&format!("the length of {what}"), 1)?;
                self.skip(length, &what)
            }
            ARRAY if depth < DEEPEST => {
                let kind = self.u32(&what)?;
                let smallest = plain(kind).unwrap_or(8);
                let count = self.count(&format!("the length of {what}"), smallest)?;
                if plain(kind).is_some() {
                    return self.skip(count * smallest, &what);
                }
                (0..count).try_for_each(|_| self.skip_value(kind, key, depth + 1))
            }
            ARRAY => Err(Error::header(self.path, what, "nested too deeply", format!("at most {DEEPEST} levels deep"))),
            _ => Err(Error::header(self.path, format!("the type of {what}"), kind, "a GGUF type from 0 to 12")),
        }
    }

    fn tensors(&mut self, number: usize, count: u64) -> Result<Vec<Listed>> {
        let mut names = HashSet::new();
        let mut listed = Vec::new();
        for _ in 0..count {
            let tensor = self.tensor(number)?;
            if !names.insert(tensor.0.name.clone()) {
                let field = format!("the name {}", shown(&tensor.0.name));
                return Err(Error::header(self.path, field, "duplicated", "unique"));
            }
            listed.push(tensor);
        }
        Ok(listed)
    }

    fn tensor(&mut self, number: usize) -> Result<Listed> {
        let name = self.text("the name of a tensor")?;
        let refused = |field, value: u32, limit: String| Err(Error::tensor(self.path, &name, field, value, limit));
        let axes = u32::from_le_bytes(self.take("the axes of a tensor")?);
        if axes > MOST_AXES {
            return refused("the number of axes", axes, format!("at most {MOST_AXES}"));
        }
        // GGUF lists the innermost axis first.
        let mut shape = Vec::new();
        for _ in 0..axes {
            shape.insert(0, self.u64("the shape of a tensor")?);
        }
        let id = self.u32("the type of a tensor")?;
        let Some(kind) = Kind::of_gguf(id) else {
            return refused("the type", id, "a known type of ggml".into());
        };
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.block) {
            let limit = format!("a multiple of {}, the block size of {}", kind.block, kind.name);
            return Err(Error::tensor(self.path, &name, "the length of the innermost axis", row, limit));
        }
        let (elements, bytes) = size(self.path, &name, kind, &shape)?;
        let offset = self.u64("the offset of a tensor")?;
        Ok((Tensor { name, kind, shape, elements, file: number, start: 0, bytes }, offset))
    }

    /// Computes the position of each tensor, and checks its offset.
    ///
    /// Each tensor must start at the first aligned position after the end of the previous tensor. No padding is
    /// required after the last tensor.
    fn placed(&self, listed: Vec<Listed>, alignment: u64) -> Result<Vec<Tensor>> {
        let data = self.at.next_multiple_of(alignment);
        let mut expected = 0;
        let place = |(mut tensor, offset): Listed| {
            let refused = |field, value, limit| Err(Error::tensor(self.path, &tensor.name, field, value, limit));
            if offset != expected {
                let limit = format!("{expected}, the first multiple of {alignment} after the previous tensor");
                return refused("the offset", offset, limit);
            }
            let end = u128::from(data) + u128::from(offset) + u128::from(tensor.bytes);
            if end > u128::from(self.length) && tensor.bytes > 0 {
                let limit = format!("at most {}, the file's length", self.length);
                return Err(Error::tensor(self.path, &tensor.name, "the end offset", end, limit));
            }
            tensor.start = data + offset;
            expected = (offset + tensor.bytes).next_multiple_of(alignment);
            Ok(tensor)
        };
        listed.into_iter().map(place).collect()
    }
}

/// Returns the size in bytes of the metadata values of a type, or `None` if the type has no fixed size. `kind` is the
/// type's code.
fn plain(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
