//! The header of a GGUF file, versions 2 and 3: metadata, of which only the alignment matters here, and the tensors.

use super::error::{Error, Result, shown};
use super::kind::Kind;
use super::safetensors::LONGEST_HEADER;
use super::tensor::{Tensor, size};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// The bytes that such a file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// What ggml has at most.
const MOST_AXES: u32 = 4;
/// The longest key that the format allows; names are shorter.
const LONGEST_NAME: u64 = 65_535;
/// Lists within lists.
const DEEPEST: u32 = 8;
/// The alignment of files that name none.
const ALIGNMENT: u64 = 32;
/// The smallest entries that there can be: a key, a type and a byte; a name, its axes, a type and an offset.
const SMALLEST_PAIR: u64 = 8 + 4 + 1;
const SMALLEST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// The types of metadata that have numbers of their own here.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The tensors of a file, in its order.
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
    /// Where it has to end.
    end: u64,
    /// Where the file ends.
    length: u64,
}

/// A tensor whose place is not yet known, and the offset that it has.
type Listed = (Tensor, u64);

impl Header<'_> {
    /// So many bytes must be left.
    fn has(&self, bytes: u64, what: &str) -> Result<()> {
        if bytes <= self.end - self.at {
            return Ok(());
        }
        let field = format!("the end of {what}");
        let why = if self.end == self.length { "the file's length" } else { "the longest header that is read" };
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
        // Less than the file's length, which the operating system has as i64.
        self.file.seek_relative(bytes as i64).map_err(|e| Error::read(self.path, what, e))?;
        self.at += bytes;
        Ok(())
    }

    /// A number of things that take so many bytes each at least, for which the rest of the file has room.
    fn count(&mut self, what: &str, smallest: u64) -> Result<u64> {
        let count = self.u64(what)?;
        let most = (self.end - self.at) / smallest;
        if count > most {
            let limit = format!("at most {most}, for which the rest of the header has room");
            return Err(Error::header(self.path, what, count, limit));
        }
        Ok(count)
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.count(&format!("the length of {what}"), 1)?;
        if length > LONGEST_NAME {
            let limit = format!("at most {LONGEST_NAME}, the longest that is read");
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

    /// Reads over the metadata, for the alignment.
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
                return Err(Error::header(self.path, format!("the key {}", shown(&key)), "there twice", "there once"));
            }
        }
        Ok(alignment)
    }

    fn aligned(&mut self, kind: u32) -> Result<u64> {
        const U32: u32 = 4;
        let limit = "a power of two, as an unsigned number of 32 bits";
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
            ARRAY => Err(Error::header(self.path, what, "a list in a list ..", format!("{DEEPEST} deep at most"))),
            _ => Err(Error::header(self.path, format!("the type of {what}"), kind, "0 to 12, those of GGUF")),
        }
    }

    fn tensors(&mut self, number: usize, count: u64) -> Result<Vec<Listed>> {
        let mut names = HashSet::new();
        let mut listed = Vec::new();
        for _ in 0..count {
            let tensor = self.tensor(number)?;
            if !names.insert(tensor.0.name.clone()) {
                let field = format!("the name {}", shown(&tensor.0.name));
                return Err(Error::header(self.path, field, "there twice", "there once"));
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
        // The innermost axis comes first here.
        let mut shape = Vec::new();
        for _ in 0..axes {
            shape.insert(0, self.u64("the shape of a tensor")?);
        }
        let id = self.u32("the type of a tensor")?;
        let Some(kind) = Kind::of_gguf(id) else {
            return refused("the type", id, "one that is known of ggml".into());
        };
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.block) {
            let limit = format!("a multiple of {}, the block of {}", kind.block, kind.name);
            return Err(Error::tensor(self.path, &name, "the innermost axis", row, limit));
        }
        let (elements, bytes) = size(self.path, &name, kind, &shape)?;
        let offset = self.u64("the offset of a tensor")?;
        Ok((Tensor { name, kind, shape, elements, file: number, start: 0, bytes }, offset))
    }

    /// Each tensor begins at the first aligned place after the one before it; the last may end with the file.
    fn placed(&self, listed: Vec<Listed>, alignment: u64) -> Result<Vec<Tensor>> {
        let data = self.at.next_multiple_of(alignment);
        let mut expected = 0;
        let place = |(mut tensor, offset): Listed| {
            let refused = |field, value, limit| Err(Error::tensor(self.path, &tensor.name, field, value, limit));
            if offset != expected {
                let limit = format!("{expected}, the first multiple of {alignment} after the tensor before it");
                return refused("the offset", offset, limit);
            }
            let end = u128::from(data) + u128::from(offset) + u128::from(tensor.bytes);
            if end > u128::from(self.length) && tensor.bytes > 0 {
                let limit = format!("at most {}, the file's length", self.length);
                return Err(Error::tensor(self.path, &tensor.name, "the end in the file", end, limit));
            }
            tensor.start = data + offset;
            expected = (offset + tensor.bytes).next_multiple_of(alignment);
            Ok(tensor)
        };
        listed.into_iter().map(place).collect()
    }
}

/// The bytes of a value of metadata that has the same number always.
fn plain(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
