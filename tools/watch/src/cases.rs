//! Every op in every type, on four rows that are no whole number of blocks.

use crate::call::{self, Call, Operands};
use crate::error::Result;
use arbitrary::{Arbitrary, Unstructured};
use evenkeel::registry::OPS;
use evenkeel::{DType, Element};
use half::{bf16, f16};
use std::hint::black_box;

const ROWS: usize = 4;
const COLS: usize = 984;

/// What an op's instructions are divided by.
pub const ELEMENTS: usize = ROWS * COLS;

/// The function before which callgrind writes what it has counted.
pub const MARKER: &str = "watch::cases::marker";

/// An op in a type.
#[derive(Clone, Copy)]
pub struct Case {
    /// Of the registry.
    op: u8,
    pub dtype: DType,
}

impl Case {
    /// All, in the order in which they run.
    pub fn all() -> impl Iterator<Item = Case> {
        let dtypes = [DType::F32, DType::F64, DType::F16, DType::BF16];
        (0..OPS.len()).flat_map(move |op| dtypes.map(|dtype| Case { op: op as u8, dtype }))
    }

    pub fn name(self) -> &'static str {
        OPS[usize::from(self.op)].name
    }

    fn run(self) -> Result<()> {
        match self.dtype {
            DType::F64 => self.run_as::<f64>(),
            DType::F16 => self.run_as::<f16>(),
            DType::BF16 => self.run_as::<bf16>(),
            _ => self.run_as::<f32>(),
        }
    }

    fn run_as<E: Element>(self) -> Result<()> {
        // Above 0, where log and sqrt have something to do.
        let numbers = (0..ELEMENTS).map(|i| E::from_wide((i * 37 % 101) as f64 / 16.0 + 0.25));
        let (x, dy): (Vec<E>, Vec<E>) = (numbers.clone().collect(), numbers.rev().collect());
        let call = Call {
            op: self.op,
            scale: 1.0,
            softcap: None,
            causal: false,
            keep: None,
            policy: 3,
            eps: 1e-5,
            offset: if OPS[usize::from(self.op)].name.starts_with("clamped") { 8.0 } else { 0.0 },
            theta: 10_000.0,
            interleaved: false,
            positions: [1, 2, 3],
            temperature: 1.0,
            ..Call::arbitrary(&mut Unstructured::new(&[])).expect("zeros are a call")
        };
        let operands = Operands::new(&x, &dy, ROWS, COLS);
        // The first finds out what the CPU has, and makes the buffers.
        black_box(call::run(&call, &operands)?);
        marker();
        black_box(call::run(&call, &operands)?);
        marker();
        Ok(())
    }
}

/// Runs all; callgrind counts.
pub fn run() -> Result<()> {
    Case::all().try_for_each(Case::run)
}

#[inline(never)]
fn marker() {
    black_box(());
}
