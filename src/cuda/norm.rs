//! Kernel selection for the row norms.

use super::device::Launch;
use super::operand::TypedDevicePtr;
use super::rows::{Rows, RowsMut};
use crate::element::DType;
use crate::error::{Error, Result};

/// Maximum number of blocks.
const MOST_BLOCKS: usize = 1 << 13;
/// Number of rows per block in calls of 8,192 to 32,768 rows. Each block checks the operands' magnitudes once for all
/// of its rows.
const ROWS_OF_BLOCK: usize = 4;
/// Number of blocks that keep a device busy. If there are fewer rows, each row has its own block.
const ENOUGH_BLOCKS: usize = 1 << 11;
/// Maximum number of columns. Kernels index columns in 32 bits and may step past the end of a row.
const MOST_COLS: usize = 1 << 30;

/// Lists an op's kernels for f32, f16 and bf16. Each type has three kernels: for rows that fit in registers, for longer
/// rows, and for rows accessed one element at a time.
macro_rules! kernels {
    ($op:literal) => {
        [
            [concat!($op, "_f32_held"), concat!($op, "_f32_long"), concat!($op, "_f32_any")],
            [concat!($op, "_f16_held"), concat!($op, "_f16_long"), concat!($op, "_f16_any")],
            [concat!($op, "_bf16_held"), concat!($op, "_bf16_long"), concat!($op, "_bf16_any")],
        ]
    };
}
pub(super) use kernels;

/// Returns the kernel for rows at these addresses with these operands, or `None` if there are no elements. An address
/// of 0 means that the tensor is absent. `held_threads` is the largest number of threads that hold a row in registers,
/// and `long_threads` the number of threads that read a longer row.
pub(super) fn plan<const N: usize>(
    op: &'static str,
    (kernels, [held_threads, long_threads]): (&[[&'static str; 3]; 3], [usize; 2]),
    dtype: DType,
    (rows, cols): (usize, usize),
    addresses: [u64; N],
    operands: &[Option<TypedDevicePtr>],
) -> Result<Option<Launch>> {
    let ([held, long, any], lanes) = match dtype {
        DType::F32 => (kernels[0], 4),
        DType::F16 => (kernels[1], 8),
        DType::BF16 => (kernels[2], 8),
        DType::F64 => return Err(Error::UnsupportedDType { op, dtype: dtype.to_string(), backend: "cuda" }),
    };
    if cols > MOST_COLS {
        return Err(Error::invalid(op, "columns", cols, format!("at most {MOST_COLS}")));
    }
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let is_aligned = |address: u64| address.is_multiple_of(16);
    let of_vectors = |at: &TypedDevicePtr| is_aligned(at.address) && [dtype, DType::F32].contains(&at.dtype);
    let has_vectors = cols.is_multiple_of(lanes)
        && addresses.into_iter().all(is_aligned)
        && operands.iter().flatten().all(of_vectors);
    let threads = |each: usize| cols.div_ceil(each).next_power_of_two().max(32);
    let (kernel, threads) = match threads(4 * lanes) {
        _ if !has_vectors => (any, threads(8).min(256)),
        threads if threads <= held_threads => (held, threads),
        _ => (long, long_threads),
    };
    let blocks = rows.div_ceil(ROWS_OF_BLOCK).max(rows.min(ENOUGH_BLOCKS)).min(MOST_BLOCKS);
    Ok(Some(Launch { source: op, kernel, blocks: blocks as u32, threads: threads as u32, shared: 0 }))
}

/// Rejects an operand that is given in an op's options. Operands in options are in the host's memory.
pub(super) fn not_of_the_host(op: &'static str, argument: &'static str, is_given: bool) -> Result<()> {
    if is_given {
        return Err(Error::invalid(
            op,
            argument,
            "in the host's memory",
            "passed as a separate argument in device memory",
        ));
    }
    Ok(())
}

/// Checks that the output rows have the shape of the input rows.
pub(super) fn same_shape<E>(
    op: &'static str,
    argument: &'static str,
    (rows, cols): (usize, usize),
    x: &Rows<'_, E>,
) -> Result<()> {
    if (rows, cols) == (x.rows, x.cols) {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{rows} rows of {cols}"), format!("{} rows of {}", x.rows, x.cols)))
}

impl<E> Rows<'_, E> {
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

impl<E> RowsMut<'_, E> {
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}
