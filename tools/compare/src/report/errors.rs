//! Errors of results that the Python side stored in files.

use crate::exact::Exact;
use crate::float::Float;
use crate::ops::{self, Op, Visit};
use crate::problem::{Problem, Shape};
use crate::record::Run;
use crate::with_dtype;
use anyhow::{Context, Result};
use std::path::Path;

/// Computes the errors of all results of all runs.
pub fn fill(runs: &mut [(Run, &Path)]) -> Result<()> {
    ops::each(&mut Fill { runs })
}

struct Fill<'a, 'p> {
    runs: &'a mut [(Run, &'p Path)],
}

impl Visit for Fill<'_, '_> {
    fn op<O: Op>(&mut self) -> Result<()> {
        for &shape in O::SHAPES {
            for &dtype in O::DTYPES {
                with_dtype!(dtype, E => self.case::<O, E>(shape))?;
            }
        }
        Ok(())
    }
}

impl Fill<'_, '_> {
    fn case<O: Op, E: Float>(&mut self, shape: Shape) -> Result<()> {
        let (mut exact, name) = (None, shape.to_string());
        for (run, folder) in self.runs.iter_mut() {
            let of_case = |r: &&mut crate::record::Record| r.op == O::NAME && r.dtype == E::NAME && r.shape == name;
            for record in run.records.iter_mut().filter(of_case) {
                let Some(file) = &record.result else { continue };
                let path = folder.join(file);
                let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
                let exact = exact.get_or_insert_with(|| Exact::of::<O, E>(&Problem::new(shape, O::INPUTS)));
                record.errors = Some(exact.errors(&numbers::<E>(&bytes)));
            }
        }
        Ok(())
    }
}

/// Converts little-endian bytes to numbers.
fn numbers<E: Float>(bytes: &[u8]) -> Vec<E> {
    let bits = |bytes: &[u8]| bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
    bytes.chunks_exact(size_of::<E>()).map(|bytes| E::from_bits(bits(bytes))).collect()
}
