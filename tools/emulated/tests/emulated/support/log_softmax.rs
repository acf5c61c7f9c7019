//! Cases for log_softmax and logsumexp.

use super::{Guarded, How};
use evenkeel::cuda::{DeviceElement, log_softmax, logsumexp};
use evenkeel::{Rows, Softmax, report};
use evenkeel_emulated::Emulator;

/// Runs one case of log_softmax, and returns how it differs from the CPU, if it does.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    (rows, cols): (usize, usize),
    options: &Softmax,
    how: How,
) -> Result<(), String> {
    let told = |found: String| format!("log_softmax {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(x.len(), how.shift));
    let mut met = [0u64, 0, 0, u64::MAX];
    let addresses = [from.address(), to.address(), met.as_mut_ptr() as u64];
    let planned = log_softmax::launch(E::DTYPE, addresses, (rows, cols), options).unwrap().expect("there are elements");
    // SAFETY: the addresses point to slices of the required lengths, which outlive the kernel run.
    unsafe { how.run(emulator, planned) }.map_err(told)?;
    let (expected, report) =
        report::scope(|| evenkeel::log_softmax(Rows::new(x, rows, cols).unwrap(), options).unwrap());
    to.compare(&expected).map_err(told)?;
    same_met(x, cols, report.op("log_softmax"), met).map_err(told)
}

/// Runs one case of logsumexp, and returns how it differs from the CPU, if it does.
pub fn case_of_sums<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    (rows, cols): (usize, usize),
    options: &Softmax,
    how: How,
) -> Result<(), String> {
    let told = |found: String| format!("logsumexp {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(rows, 0));
    let mut met = [0u64, 0, 0, u64::MAX];
    let addresses = [from.address(), to.address(), met.as_mut_ptr() as u64];
    let planned = logsumexp::launch(E::DTYPE, addresses, (rows, cols), options).unwrap().expect("there are rows");
    // SAFETY: the addresses point to slices of the required lengths, which outlive the kernel run.
    unsafe { how.run(emulator, planned) }.map_err(told)?;
    let (expected, report) = report::scope(|| evenkeel::logsumexp(Rows::new(x, rows, cols).unwrap(), options).unwrap());
    to.compare(&expected).map_err(told)?;
    same_met(x, cols, report.op("logsumexp"), met).map_err(told)
}

/// Compares the counts of special rows with the CPU's report.
fn same_met<E: DeviceElement>(x: &[E], cols: usize, counts: report::Counts, met: [u64; 4]) -> Result<(), String> {
    let first = x.chunks(cols.max(1)).position(|row| row.iter().all(|z| z.widen() == f64::NEG_INFINITY));
    let first = first.map_or(u64::MAX, |row| row as u64);
    let expected = [counts.nan, counts.infinite, counts.fully_masked, first];
    if met != expected {
        return Err(format!("row counts are {met:?} instead of {expected:?}"));
    }
    Ok(())
}
