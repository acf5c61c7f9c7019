//! Tables of a function's results for all inputs of a 16-bit type.
//!
//! Reading a result from a table takes less time than computing it. A table is filled as soon as all calls of its
//! function together have had more elements than the table has entries. On one thread, filling the table then takes no
//! longer than computing these elements took.

use crate::dtype::DType;
use crate::element::Element;
use crate::error::Result;
use crate::simd::{Level, level, reserve};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of bit patterns of a 16-bit type.
const ENTRIES: usize = 1 << u16::BITS;
/// Number of entries computed at a time.
const TILE: usize = 1 << 10;

/// Bits of the results, indexed by the bits of the input.
pub type Table = [u16; ENTRIES];

/// Tables of one function, one for each instruction set and 16-bit type. With a common table, a test of one instruction
/// set would read results that another one computed.
pub struct Tables([[Entry; 2]; Level::ALL.len()]);

struct Entry {
    /// Number of elements of all calls so far. It is not updated once the table is filled.
    elements: AtomicUsize,
    table: OnceLock<Box<Table>>,
}

impl Tables {
    pub const fn new() -> Self {
        Tables([const { [const { Entry { elements: AtomicUsize::new(0), table: OnceLock::new() } }; 2] }; _])
    }

    /// Returns the table for the type `E`. Fills it first, if necessary, with `compute`, which replaces numbers by
    /// their results. Returns `None` if `E` is not a 16-bit type, if all calls together have had too few elements, or
    /// if there is no memory for the table. The caller then computes the next `len` elements.
    pub fn get<E: Element>(&self, len: usize, compute: impl FnMut(&mut [E]) -> Result<()>) -> Result<Option<&Table>> {
        let index = match E::DTYPE {
            DType::F16 => 0,
            DType::BF16 => 1,
            _ => return Ok(None),
        };
        let entry = &self.0[level()? as usize][index];
        if let Some(table) = entry.table.get() {
            return Ok(Some(table));
        }
        if entry.elements.fetch_add(len, Ordering::Relaxed).saturating_add(len) <= ENTRIES {
            return Ok(None);
        }
        let Some(table) = filled(compute)? else { return Ok(None) };
        Ok(Some(entry.table.get_or_init(|| table)))
    }
}

/// Computes a table. Returns `None` if there is no memory for it.
fn filled<E: Element>(mut compute: impl FnMut(&mut [E]) -> Result<()>) -> Result<Option<Box<Table>>> {
    let Ok(mut table) = reserve("elementwise", "a table of results", ENTRIES) else { return Ok(None) };
    let mut tile = [E::ZERO; TILE];
    for start in (0..ENTRIES).step_by(TILE) {
        for (value, bits) in tile.iter_mut().zip(start..) {
            *value = E::from_bits(bits as u64);
        }
        compute(&mut tile)?;
        table.extend(tile.map(|value| value.bits() as u16));
    }
    Ok(table.into_boxed_slice().try_into().ok())
}
