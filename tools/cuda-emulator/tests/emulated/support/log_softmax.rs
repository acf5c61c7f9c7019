//! Cases for log_softmax and logsumexp.

use super::{Guarded, How, first_masked, same_guards};
use evenkeel::cuda::{DeviceElement, log_softmax, logsumexp};
use evenkeel::{Rows, Softmax, report};
use evenkeel_cuda_emulator::Emulator;

/// Runs one case of log_softmax. Fails if its results differ from the CPU's.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    (rows, cols): (usize, usize),
    options: &Softmax,
    how: How,
) -> Result<(), String> {
    let describe = |found: String| format!("log_softmax {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    // If the shift is even, only the input is shifted, so that the input and the results differ in alignment.
    let shift = if how.shift.is_multiple_of(2) { 0 } else { how.shift };
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(x.len(), shift));
    let mut guards = [0u64, 0, 0, u64::MAX];
    let addresses = [from.address(), to.address(), guards.as_mut_ptr() as u64];
    let planned = log_softmax::launch(E::DTYPE, addresses, (rows, cols), options)
        .unwrap()
        .expect("log_softmax of a non-empty matrix must launch a kernel");
    // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
    unsafe { how.run(emulator, planned) }.map_err(describe)?;
    let (expected, report) =
        report::scope(|| evenkeel::log_softmax(Rows::new(x, rows, cols).unwrap(), options).unwrap());
    to.compare(&expected).map_err(describe)?;
    same_guards(guards, report.op("log_softmax"), first_masked(x, cols)).map_err(describe)
}

/// Runs one case of logsumexp. Fails if its results differ from the CPU's.
pub fn case_of_sums<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    (rows, cols): (usize, usize),
    options: &Softmax,
    how: How,
) -> Result<(), String> {
    let describe = |found: String| format!("logsumexp {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(rows, 0));
    let mut guards = [0u64, 0, 0, u64::MAX];
    let addresses = [from.address(), to.address(), guards.as_mut_ptr() as u64];
    let planned = logsumexp::launch(E::DTYPE, addresses, (rows, cols), options)
        .unwrap()
        .expect("logsumexp of a non-empty matrix must launch a kernel");
    // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
    unsafe { how.run(emulator, planned) }.map_err(describe)?;
    let (expected, report) = report::scope(|| evenkeel::logsumexp(Rows::new(x, rows, cols).unwrap(), options).unwrap());
    to.compare(&expected).map_err(describe)?;
    same_guards(guards, report.op("logsumexp"), first_masked(x, cols)).map_err(describe)
}
