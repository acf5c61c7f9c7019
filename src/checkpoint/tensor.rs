//! A tensor of a file: what the header says of it, and whether that can be.

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
    /// Which file of the checkpoint it is in, from where in it, and to where.
    pub(crate) file: usize,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

impl Tensor {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type, as the file's format spells it.
    pub fn dtype(&self) -> &'static str {
        self.kind.name
    }

    /// Its axes, the innermost last, in GGUF too.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The product of its axes.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// How many bytes of the file it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether its type is one of floats that are decoded.
    pub fn is_analysed(&self) -> bool {
        self.kind.decode.is_some()
    }
}

/// More axes than any framework has.
const MOST_AXES: usize = 64;

/// The product of the axes, and the bytes that so many elements take.
pub(crate) fn size(path: &Path, name: &str, kind: &Kind, shape: &[u64]) -> Result<(u64, u64)> {
    if shape.len() > MOST_AXES {
        return Err(Error::tensor(path, name, "the number of axes", shape.len(), format!("at most {MOST_AXES}")));
    }
    let too_large = || {
        let limit = "a shape whose elements take less than 2^64 bytes";
        Error::tensor(path, name, "shape", format!("{shape:?}"), limit)
    };
    // A 0 anywhere makes it 0, whatever the rest would come to.
    let product = shape.iter().try_fold(1u64, |product, &axis| product.checked_mul(axis));
    let elements = if shape.contains(&0) { 0 } else { product.ok_or_else(too_large)? };
    if !elements.is_multiple_of(kind.block) {
        let limit = format!("a multiple of {}, the block of {}", kind.block, kind.name);
        return Err(Error::tensor(path, name, "the number of elements", elements, limit));
    }
    let bytes = (elements / kind.block).checked_mul(kind.bytes).ok_or_else(too_large)?;
    Ok((elements, bytes))
}
