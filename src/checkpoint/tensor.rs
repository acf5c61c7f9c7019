//! Description of a tensor in a file's header, and the check of its size.

use super::error::{Error, Result};
use super::kind::Kind;
use std::path::Path;

/// A tensor as a file's header describes it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) name: String,
    pub(crate) kind: &'static Kind,
    pub(crate) shape: Vec<u64>,
    pub(crate) elements: u64,
    /// Index of the tensor's file in the checkpoint.
    pub(crate) file: usize,
    /// Offset of the tensor's first byte in its file.
    pub(crate) start: u64,
    /// Number of bytes of the tensor in its file.
    pub(crate) bytes: u64,
}

impl Tensor {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the type in the file's format.
    pub fn dtype(&self) -> &'static str {
        self.kind.name
    }

    /// Returns the lengths of the axes, the innermost last (for GGUF too).
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns the number of bytes that the tensor takes in the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns whether the tensor is analysed, which is the case if its type is a float type that can be decoded.
    pub fn is_analysed(&self) -> bool {
        self.kind.decode.is_some()
    }
}

/// Maximum number of axes, more than any framework supports.
const MOST_AXES: usize = 64;

/// Returns the number of elements of a shape, and the number of bytes that they take.
pub(crate) fn size(path: &Path, name: &str, kind: &Kind, shape: &[u64]) -> Result<(u64, u64)> {
    if shape.len() > MOST_AXES {
        return Err(Error::tensor(path, name, "the number of axes", shape.len(), format!("at most {MOST_AXES}")));
    }
    let too_large = || {
        let limit = "a shape whose elements take less than 2^64 bytes";
        Error::tensor(path, name, "shape", format!("{shape:?}"), limit)
    };
    // An axis of length 0 makes the product 0, even if the product of the other axes overflows.
    let product = shape.iter().try_fold(1u64, |product, &axis| product.checked_mul(axis));
    let elements = if shape.contains(&0) { 0 } else { product.ok_or_else(too_large)? };
    if !elements.is_multiple_of(kind.block) {
        let limit = format!("a multiple of {}, the block size of {}", kind.block, kind.name);
        return Err(Error::tensor(path, name, "the number of elements", elements, limit));
    }
    let bytes = (elements / kind.block).checked_mul(kind.bytes).ok_or_else(too_large)?;
    Ok((elements, bytes))
}
