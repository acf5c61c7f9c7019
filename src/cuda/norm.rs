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
/// Number of blocks that keep a device busy if blocks have more than 256 threads and read rows of any length. Such a
/// block prefetches its next row, so it should have several rows.
const ENOUGH_LARGE_BLOCKS: usize = 1 << 9;
/// Maximum number of columns. Kernels index columns in 32 bits and may step past the end of a row.
const MOST_COLS: usize = 1 << 30;

/// Number of bytes of shared memory for each thread that reads rows of any length and at any address. On a
/// multiprocessor with 228 KiB and 1,024 threads, this number leaves space for the sums.
const SHARED_OF_THREAD: usize = 200;
/// Maximum number of bytes of shared memory.
const MOST_SHARED: usize = 227 << 10;

/// Lists an op's kernels for f32, f16 and bf16. Each type has two kernels: for aligned rows that fit in registers, and
/// for all other rows.
macro_rules! kernels {
    ($op:literal) => {
        [
            [concat!($op, "_f32_held"), concat!($op, "_f32_any")],
            [concat!($op, "_f16_held"), concat!($op, "_f16_any")],
            [concat!($op, "_bf16_held"), concat!($op, "_bf16_any")],
        ]
    };
}
pub(super) use kernels;

/// Kernels of an op, and their limits.
pub(super) struct Kernels {
    pub(super) names: [[&'static str; 2]; 3],
    /// Largest number of threads that hold a row in registers, and largest number of threads that read any row.
    pub(super) threads: [usize; 2],
    /// Number of matrices whose rows are copied to shared memory.
    pub(super) copied: usize,
}

/// Returns the kernel for rows at these addresses with these operands, or `None` if there are no elements. An address
/// of 0 means that the tensor is absent.
pub(super) fn plan<const N: usize>(
    op: &'static str,
    kernels: &Kernels,
    dtype: DType,
    (rows, cols): (usize, usize),
    addresses: [u64; N],
    operands: &[Option<TypedDevicePtr>],
) -> Result<Option<Launch>> {
    let ([held, any], lanes) = match dtype {
        DType::F32 => (kernels.names[0], 4),
        DType::F16 => (kernels.names[1], 8),
        DType::BF16 => (kernels.names[2], 8),
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
    let [held_threads, any_threads] = kernels.threads;
    let threads = cols.div_ceil(4 * lanes).next_power_of_two().max(32);
    let (kernel, threads, shared) = if has_vectors && threads <= held_threads {
        (held, threads, 0)
    } else {
        // A copy consists of whole granules of sixteen bytes. The row may begin and end inside a granule, so one
        // granule more is needed. The copy also has one granule behind the row.
        let shared = kernels.copied * (cols.div_ceil(lanes) + 2) * 16;
        let for_shared = shared.div_ceil(SHARED_OF_THREAD).next_power_of_two();
        (any, threads.min(256).max(for_shared).min(any_threads), shared.min(MOST_SHARED))
    };
    let enough = if kernel == any && threads > 256 { ENOUGH_LARGE_BLOCKS } else { ENOUGH_BLOCKS };
    let blocks = rows.div_ceil(ROWS_OF_BLOCK).max(rows.min(enough)).min(MOST_BLOCKS);
    Ok(Some(Launch { source: op, kernel, blocks: blocks as u32, threads: threads as u32, shared: shared as u32 }))
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
