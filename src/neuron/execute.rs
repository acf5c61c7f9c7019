//! Layer between an op and the executor of its program. It converts tensors to bytes, and computes the rows that the
//! device leaves to the host.

#![forbid(unsafe_code)]

use super::program::{Program, TensorSpec};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::report::{self, Counts};
use crate::rows::Rows;

/// Executor of programs, such as a session on a device or the interpreter on the CPU.
pub trait Execute {
    /// Runs a program once. Inputs and outputs are in the program's order, row-major and little-endian.
    ///
    /// # Errors
    /// [`Error::Failed`] or `Error::Neuron` if the executor fails; [`Error::ShapeMismatch`] for inputs of wrong sizes.
    fn execute(&self, program: &Program, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>>;
}

/// State of a row, from the status output of a program.
///
/// Programs do no arithmetic on non-finite numbers. So the program's other outputs are meaningful only for rows whose
/// status is `Plain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// 0: the numbers that the program wrote for the row are its final results.
    Plain,
    /// 1: the row is fully masked, or a class that contributes to a loss is masked.
    Masked,
    /// 2: the row has an infinity that is not a mask.
    Infinite,
    /// 3: the row has a NaN.
    Nan,
}

impl Status {
    /// Converts the number in a status output.
    ///
    /// # Errors
    /// [`Error::Failed`] for a number other than 0 to 3, which means that the executor did not run the program
    /// correctly.
    pub fn of(number: i32) -> Result<Self> {
        match number {
            0 => Ok(Status::Plain),
            1 => Ok(Status::Masked),
            2 => Ok(Status::Infinite),
            3 => Ok(Status::Nan),
            _ => Err(broken(format!("a row has status {number}; it must be 0 to 3"))),
        }
    }
}

fn broken(reason: String) -> Error {
    Error::failed("neuron", reason)
}

/// Runs a program with `N` outputs, and checks the sizes of its inputs and outputs.
pub(super) fn run<const N: usize>(
    device: &impl Execute,
    program: &Program,
    inputs: &[Option<&[u8]>],
) -> Result<[Vec<u8>; N]> {
    let inputs: Vec<&[u8]> = inputs.iter().flatten().copied().collect();
    check("input", program.inputs(), inputs.iter().map(|bytes| bytes.len()))?;
    let outputs = device.execute(program, &inputs)?;
    check("output", program.outputs(), outputs.iter().map(Vec::len))?;
    let count = outputs.len();
    outputs.try_into().map_err(|_| broken(format!("{} has {count} outputs; the op needs {N} outputs", program.name())))
}

/// Checks the number and sizes of tensors against a program's specifications. `what` is "input" or "output".
pub(super) fn check(what: &str, specs: &[TensorSpec], sizes: impl ExactSizeIterator<Item = usize>) -> Result<()> {
    if specs.len() != sizes.len() {
        return Err(broken(format!("got {} {what}s; the program declares {} {what}s", sizes.len(), specs.len())));
    }
    match specs.iter().zip(sizes).find(|(spec, size)| spec.bytes() != *size) {
        None => Ok(()),
        Some((spec, size)) => Err(broken(format!("an {what} has {size} bytes; {spec:?} needs {} bytes", spec.bytes()))),
    }
}

/// Calls `host` for each row that the device left to the host. Records the number of rows that the device computed.
pub(super) fn finish(op: &'static str, status: &[u8], mut host: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let (mut plain, mut failed) = (0, None);
    for (row, number) in integers(status).enumerate() {
        match Status::of(number)? {
            Status::Plain => plain += 1,
            // Process all rows, so that all are counted; return the error of the first failing row.
            _ => failed = failed.or(host(row).err().map(|error| error.in_row(row))),
        }
    }
    report::record(op, Counts { rows: plain, ..Counts::default() });
    failed.map_or(Ok(()), Err)
}

/// Returns the elements of a view as contiguous bytes.
pub(super) fn rows_to_bytes<E: Element>(x: Rows<'_, E>) -> Vec<u8> {
    (0..x.rows()).flat_map(|row| x.row(row)).flat_map(|x| element_bytes(*x)).collect()
}

fn element_bytes<E: Element>(x: E) -> impl Iterator<Item = u8> {
    x.bits().to_le_bytes().into_iter().take(size_of::<E>())
}

pub(super) fn to_bytes<E: Element>(values: &[E]) -> Vec<u8> {
    values.iter().flat_map(|x| element_bytes(*x)).collect()
}

pub(super) fn elements<E: Element>(bytes: &[u8]) -> Vec<E> {
    let element = |bytes: &[u8]| E::from_bits(bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
    bytes.chunks_exact(size_of::<E>()).map(element).collect()
}

pub(super) fn integers(bytes: &[u8]) -> impl Iterator<Item = i32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes))
}
