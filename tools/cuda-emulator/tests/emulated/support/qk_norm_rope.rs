//! Cases for RMSNorm fused with rope.

use super::norm::Operand;
use super::rope::Table;
use super::{Guarded, How};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::qk_norm_rope::launch;
use evenkeel::{RmsNorm, Rows};
use evenkeel_cuda_emulator::Emulator;

/// Runs one case twice, with a separate output and in place. Fails if the results differ from the CPU's.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    weight: Option<&Operand>,
    (table, options): (&Table, &RmsNorm<'static>),
    how: How,
) -> Result<(), String> {
    let Table { table, turn, cols, cos, sin } = table;
    let (rows, cols) = (x.len() / cols, *cols);
    let describe = |found: String| {
        let with = weight.map(|weight| weight.floats().dtype());
        format!("{turn:?} of {} {rows}x{cols}, weight {with:?}, {options:?}, {how:?}: {found}", E::DTYPE)
    };
    let (mut from, mut apart) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(x.len(), how.shift));
    let on_cpu = match weight {
        Some(weight) => options.weight(weight.floats()),
        None => *options,
    };
    let expected = evenkeel::qk_norm_rope(Rows::new(x, rows, cols).unwrap(), table, &on_cpu).unwrap();
    let mut placed = weight.map(|weight| weight.placed(how.shift));
    for in_place in [false, true] {
        let to = if in_place { from.address() } else { apart.address() };
        let addresses = [from.address(), to, cos.as_ptr() as u64, sin.as_ptr() as u64];
        let at = placed.as_mut().map(|placed| placed.at());
        let positions = (turn.positions, turn.interleaved);
        let planned = launch(E::DTYPE, addresses, at, (rows, cols), positions, options).unwrap();
        // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
        unsafe { how.run(emulator, planned.expect("qk_norm_rope of a non-empty matrix must launch a kernel")) }
            .map_err(describe)?;
        if in_place { &from } else { &apart }.compare(&expected).map_err(describe)?;
    }
    Ok(())
}
