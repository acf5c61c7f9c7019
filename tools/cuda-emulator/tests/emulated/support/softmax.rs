//! Cases for softmax.

use super::{Guarded, How, first_masked, same_guards};
use evenkeel::cuda::{DeviceElement, softmax};
use evenkeel::{Rows, Softmax};
use evenkeel_cuda_emulator::Emulator;

/// Runs one case. Fails if its results differ from the CPU's.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    (rows, cols): (usize, usize),
    options: &Softmax,
    how: How,
) -> Result<(), String> {
    let describe = |found: String| format!("softmax {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    // If the shift is even, only the input is shifted, so that the input and the results differ in alignment.
    let shift = if how.shift.is_multiple_of(2) { 0 } else { how.shift };
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(x.len(), shift));
    let mut guards = [0u64, 0, 0, u64::MAX];
    let addresses = [from.address(), to.address(), guards.as_mut_ptr() as u64];
    let planned = softmax::launch(E::DTYPE, addresses, (rows, cols), options)
        .unwrap()
        .expect("softmax of a non-empty matrix must launch a kernel");
    // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
    unsafe { how.run(emulator, planned) }.map_err(describe)?;
    let (expected, report) =
        evenkeel::report::scope(|| evenkeel::softmax(Rows::new(x, rows, cols).unwrap(), options).unwrap());
    to.compare(&expected).map_err(describe)?;
    same_guards(guards, report.op("softmax"), first_masked(x, cols)).map_err(describe)
}
