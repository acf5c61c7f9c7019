//! Compressed PTX of the kernels, unpacked one source at a time. All kernels of a source and a storage type form a
//! module. The first call of a kernel makes the driver compile only the kernel's module.
//!
//! The archive is made by `scripts/cuda-kernels`. It begins with a line for each source: its name and the byte length
//! of its zstd frame. An empty line follows. In a frame, registers and labels have ages instead of numbers, because ages
//! compress far better. `%r1` is the register of class `r` that appeared last in the kernel, `%r2` is the one that
//! appeared before it, and `%r` is a new register. Labels are written in the same way, as class `L`. Unpacking restores
//! the numbers, and writes labels without `%`. In each class, the numbers count from 1.

#![forbid(unsafe_code)]

use super::device::{Launch, failed};
use crate::error::Result;
use ruzstd::decoding::StreamingDecoder;
use std::io::Read;

const ARCHIVE: &[u8] = include_bytes!("kernels/ptx.zst");
/// Text that begins each kernel and occurs nowhere else.
const ENTRY: &str = ".visible .entry ";
/// Class of the labels.
const LABEL: &str = "L";
/// Classes of registers, and the class of the labels.
const CLASSES: [&str; 7] = ["p", "rs", "r", "rd", "f", "fd", LABEL];

impl Launch {
    /// Returns the storage type in the kernel's name: `f32`, `f16`, `bf16` or `f64`; the string is empty if the kernel
    /// serves all types. Kernels of the same source and storage type are in one module.
    pub fn storage(&self) -> &'static str {
        storage(self.kernel)
    }

    /// Returns the PTX of the module that contains the kernel, for compute capability 8.0 and above.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if `source` does not contain the kernel.
    ///
    /// ```
    /// use evenkeel::cuda::Launch;
    /// # use evenkeel::{DType, RmsNorm, cuda::rms_norm};
    /// # let (launch, _) = rms_norm::launch(DType::BF16, [0; 2], None, None, (4, 128), &RmsNorm::default())?.unwrap();
    /// let ptx = launch.ptx()?;
    /// assert!(ptx.contains(launch.kernel));
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn ptx(&self) -> Result<String> {
        module(&unpacked(self.source)?, self.storage())
            .filter(|text| text.contains(&format!("{ENTRY}{}(", self.kernel)))
            .ok_or_else(|| failed(format!("there is no kernel {} in source {}", self.kernel, self.source)))
    }
}

/// Storage types that the name of a kernel may contain. The empty string stands for a name without a storage type: that
/// kernel serves all types.
const STORAGES: [&str; 5] = ["", "f16", "bf16", "f32", "f64"];

fn storage(kernel: &str) -> &'static str {
    let of_part = |part| STORAGES.into_iter().find(|storage| *storage == part);
    kernel.split('_').find_map(of_part).unwrap_or("")
}

/// Returns the storage types of the kernels in a source's text.
pub(super) fn storages(text: &str) -> Vec<&'static str> {
    let kernels = || text.split(ENTRY).skip(1).filter_map(|entry| entry.split('(').next());
    STORAGES.into_iter().filter(|of| kernels().any(|kernel| storage(kernel) == *of)).collect()
}

/// Returns the names of the CUDA sources, for [`preload`](super::preload).
pub fn sources() -> impl Iterator<Item = &'static str> {
    index().map(|(name, _)| name)
}

/// Returns the decompressed text of a source.
pub(super) fn unpacked(source: &str) -> Result<String> {
    let frame = frame(source).ok_or_else(|| failed(format!("there is no PTX for source {source}")))?;
    let mut text = String::new();
    let damaged = |e: String| failed(format!("the PTX of source {source} cannot be decompressed: {e}"));
    let mut decoder = StreamingDecoder::new(frame).map_err(|e| damaged(e.to_string()))?;
    decoder.read_to_string(&mut text).map_err(|e| damaged(e.to_string()))?;
    Ok(text)
}

fn frame(source: &str) -> Option<&'static [u8]> {
    let mut at = head() + 2;
    for (name, length) in index() {
        if name == source {
            return ARCHIVE.get(at..at + length);
        }
        at += length;
    }
    None
}

/// Returns the number of bytes before the empty line that precedes the frames.
fn head() -> usize {
    ARCHIVE.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0)
}

/// Returns the name of each source and the length of its frame.
fn index() -> impl Iterator<Item = (&'static str, usize)> {
    let lines = ARCHIVE.get(..head()).and_then(|head| std::str::from_utf8(head).ok()).unwrap_or("").lines();
    lines.filter_map(|line| line.split_once(' ').and_then(|(name, length)| Some((name, length.parse().ok()?))))
}

/// Returns the text before the first kernel, and all kernels of the storage type. Returns `None` if there are no such
/// kernels.
pub(super) fn module(text: &str, of: &str) -> Option<String> {
    let mut parts = text.split(ENTRY);
    let mut module = parts.next()?.to_string();
    let head = module.len();
    for entry in parts {
        if storage(entry.split('(').next()?) == of {
            module.push_str(ENTRY);
            push_numbered(&mut module, entry);
        }
    }
    (module.len() > head).then_some(module)
}

/// Appends a kernel, with the numbers of its registers and labels in place of their ages.
fn push_numbered(to: &mut String, entry: &str) {
    // For each class, the numbers that appeared so far. The number that appeared last is at the end.
    let mut known = CLASSES.map(|_| Vec::new());
    let mut parts = entry.split('%');
    to.push_str(parts.next().unwrap_or(""));
    for part in parts {
        let name = part.len() - part.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let age = part[name..].len() - part[name..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (name, (age, rest)) = (&part[..name], part[name..].split_at(age));
        to.extend([if name == LABEL { "" } else { "%" }, name]);
        // Declarations such as `%r<9>` have no age. Digits after other names, such as `%clock64`, are part of the name.
        let class = CLASSES.iter().position(|class| *class == name).filter(|_| !rest.starts_with('<'));
        if let Some(class) = class {
            let numbers = &mut known[class];
            let at = age.parse().ok().and_then(|age: usize| numbers.len().checked_sub(age));
            let number = match at {
                Some(at) if at < numbers.len() => numbers.remove(at),
                _ => numbers.len() + 1,
            };
            numbers.push(number);
            to.push_str(&number.to_string());
        } else {
            to.push_str(age);
        }
        to.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_labels_are_numbered_by_kernel() {
        let text = ".version 7.0\n.visible .entry a_f32(\n%rd<9>, %rd, %f, %tid.x, %rd, %rd2, %rd1\nbra %L;\n%L1:\n.visible .entry b_f16(\n%rd\n";
        let expected =
            ".version 7.0\n.visible .entry a_f32(\n%rd<9>, %rd1, %f1, %tid.x, %rd2, %rd1, %rd1\nbra L1;\nL1:\n";
        assert_eq!(module(text, "f32").as_deref(), Some(expected));
        assert_eq!(module(text, "bf16"), None);
        assert_eq!(storages(text), ["f16", "f32"]);
    }

    #[test]
    fn modules_are_of_one_storage_type() {
        let launch = |source, kernel| Launch { source, kernel, blocks: 1, threads: 32, shared: 0 };
        let text = launch("softmax", "softmax_bf16_8x4").ptx().unwrap();
        assert!(text.starts_with(".version"));
        assert!(text.contains("softmax_bf16_any(") && !text.contains("_f32_") && !text.contains("%r,"));
        assert!(
            launch("cross_entropy", "cross_entropy_settle").ptx().unwrap().contains(".entry cross_entropy_reduce(")
        );
        let refusal = launch("softmax", "softmin_f32").ptx().unwrap_err().to_string();
        assert!(refusal.contains("there is no kernel softmin_f32 in source softmax"), "got: {refusal}");
        assert!(launch("softmin", "softmin_f32").ptx().is_err());
        assert!(sources().any(|source| source == "softmax") && sources().all(|source| unpacked(source).is_ok()));
    }
}
