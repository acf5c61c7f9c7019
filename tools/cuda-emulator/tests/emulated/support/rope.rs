//! Cases for rope.

use super::{Guarded, How};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::rope::{Turn, launch};
use evenkeel::{Rope, RopeTable, Rows};
use evenkeel_cuda_emulator::Emulator;

/// Rotation table, with its cosines and sines.
pub struct Table {
    pub(super) table: RopeTable,
    pub(super) turn: Turn,
    pub(super) cols: usize,
    pub(super) cos: Vec<f64>,
    pub(super) sin: Vec<f64>,
}

impl Table {
    pub fn new(positions: &[i64], cols: usize, interleaved: bool, back: bool) -> Self {
        let table = RopeTable::new(positions, cols, &Rope::default().interleaved(interleaved)).unwrap();
        // Rotating (1, 0) gives cosine and sine.
        let is_first = |i: usize| if interleaved { i.is_multiple_of(2) } else { i < cols / 2 };
        let ones: Vec<f64> = (0..cols).map(|i| f64::from(is_first(i))).collect::<Vec<_>>().repeat(positions.len());
        let turned = evenkeel::rope(Rows::new(&ones, positions.len(), cols).unwrap(), &table).unwrap();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (i, value) in turned.into_iter().enumerate() {
            if is_first(i % cols) { cos.push(value) } else { sin.push(value) }
        }
        let turn = Turn { positions: positions.len(), interleaved, back };
        Table { table, turn, cols, cos, sin }
    }

    pub fn positions(&self) -> usize {
        self.turn.positions
    }
}

/// Runs one case twice, with a separate output and in place. Fails if the results differ from the CPU's.
pub fn case<E: DeviceElement>(emulator: &Emulator, x: &[E], table: &Table, how: How) -> Result<(), String> {
    let Table { table, turn, cols, cos, sin } = table;
    let rows = x.len() / cols;
    let describe = |found: String| format!("{turn:?} of {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    let (mut from, mut apart) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(x.len(), how.shift));
    let view = Rows::new(x, rows, *cols).unwrap();
    let expected = if turn.back { evenkeel::rope_backward(view, table) } else { evenkeel::rope(view, table) }.unwrap();
    for in_place in [false, true] {
        let to = if in_place { from.address() } else { apart.address() };
        let addresses = [from.address(), to, cos.as_ptr() as u64, sin.as_ptr() as u64];
        let planned = launch(E::DTYPE, addresses, (rows, *cols), *turn)
            .unwrap()
            .expect("rope of a non-empty matrix must launch a kernel");
        // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
        unsafe { how.run(emulator, planned) }.map_err(describe)?;
        if in_place { &from } else { &apart }.compare(&expected).map_err(describe)?;
    }
    Ok(())
}
