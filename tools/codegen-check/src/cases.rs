//! Cases: every op in every type, on four rows whose length is not a multiple of the block size.

use crate::call::{self, Call, Operands};
use crate::error::Result;
use arbitrary::{Arbitrary, Unstructured};
use evenkeel::registry::OPS;
use evenkeel::{DType, Element};
use half::{bf16, f16};
use std::hint::black_box;

const ROWS: usize = 4;
const COLS: usize = 984;

/// Number of elements of a case. The case's instruction count is divided by this number.
pub const ELEMENTS: usize = ROWS * COLS;

/// Marker function. Callgrind writes the counts so far at each call of this function.
pub const MARKER: &str = "codegen_check::cases::marker";

/// Op in a storage type.
#[derive(Clone, Copy)]
pub struct Case {
    /// Index of the op in the registry.
    op: u8,
    pub dtype: DType,
}

impl Case {
    /// Returns all cases in the order in which they run.
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
        // The inputs are positive, so that log and sqrt take their regular path.
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
            ..Call::arbitrary(&mut Unstructured::new(&[]))
                .expect("an empty fuzzer input must give the arguments of a call")
        };
        let operands = Operands::new(&x, &dy, ROWS, COLS);
        // The first call detects the CPU's features and allocates the buffers.
        black_box(call::run(&call, &operands)?);
        marker();
        black_box(call::run(&call, &operands)?);
        marker();
        Ok(())
    }
}

/// Runs all cases while callgrind counts.
pub fn run() -> Result<()> {
    Case::all().try_for_each(Case::run)
}

#[inline(never)]
fn marker() {
    black_box(());
}
