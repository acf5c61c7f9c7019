//! Host side of the softmax family: kernel selection, checks and launches.

use super::device::{self, Launch};
use super::guards::{Guards, counted};
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::mask::FullyMasked;
use crate::math::sum::MAX_TERMS;
use crate::ops::softmax::Softmax;
use crate::rows::Shape;
use crate::simd::in_default;
use cudarc::driver::{CudaStream, CudaViewMut, DeviceRepr};
use std::sync::Arc;

/// Maximum number of blocks. If there are more rows than blocks, a block processes several rows.
pub const MOST_BLOCKS: usize = 1 << 20;
/// Maximum number of blocks for kernels in which a block keeps only its first row in registers. Each row should get its
/// own block, so this is the largest grid that CUDA allows.
pub const MOST_BLOCKS_HELD: usize = i32::MAX as usize;

/// Arguments of the kernels for rows without mask, scale and softcap.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    y: u64,
    guards: u64,
    rows: u64,
    cols: u32,
    uniform: f32,
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Lists an op's kernels for rows with mask, scale and softcap. The list has one entry for each type, with the kernels
/// in the order that [`masked::Rows::kernel_without_bias`] expects.
macro_rules! masked_kernels {
    ($op:literal) => {
        [masked_kernels!(@ $op, "f32"), masked_kernels!(@ $op, "f16"), masked_kernels!(@ $op, "bf16")]
    };
    (@ $op:literal, $type:literal) => {
        [
            concat!($op, "_masked_", $type, "_any"),
            concat!($op, "_masked_", $type, "_8x4"),
            concat!($op, "_masked_", $type, "_16x8"),
        ]
    };
}
pub(super) use masked_kernels;

/// Kernels and properties of one op.
pub struct Op {
    pub name: &'static str,
    /// Whether the op returns one result for each row, even for rows without columns. Other ops return one result for
    /// each element.
    pub is_of_rows: bool,
    /// Kernels for rows that have no mask, scale or softcap and fit in the registers and the shared memory of a block,
    /// in order of preference.
    pub held_plain: &'static [Kernel],
    /// Kernel for all other rows without mask, scale and softcap.
    pub any_plain: Kernel,
    /// Source of the kernels for rows with mask, scale and softcap.
    pub masked_source: &'static str,
    /// Returns the kernel for rows with mask, scale or softcap, and its number of threads. The second argument tells
    /// whether rows and results can be moved sixteen bytes at a time.
    pub masked: fn(&masked::Rows, bool) -> (&'static str, u32),
}

/// Kernel for rows of scores. Each block processes one row at a time.
pub struct Kernel {
    /// Names by type.
    pub names: [&'static str; 3],
    /// Largest number of threads in a block.
    pub threads: usize,
    /// Number of pieces of sixteen bytes that a thread holds in registers.
    pub pieces: usize,
    /// Largest number of pieces of sixteen bytes that a thread has in shared memory. On a multiprocessor with 228 KiB,
    /// this number leaves space for as many blocks as the registers allow.
    pub shared_pieces: usize,
    /// Whether rows must begin and end at multiples of sixteen bytes.
    pub is_for_aligned: bool,
}

/// Runs an op on the stream's device. The caller must have checked that `out` has one element for each result.
pub fn into<E: DeviceElement>(
    op: &Op,
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    mut out: CudaViewMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
    guards: Option<&mut Guards>,
) -> Result<()> {
    let _caller = device::CallerContext::save();
    let (parts, _used) = mask.parts(op.name, stream)?;
    let (rows, cols, shape) = (x.rows, x.cols, x.shape);
    let (x, _read) = device::read((op.name, "x"), &x.data, stream)?;
    let (y, _written) = device::write((op.name, "out"), &mut out, stream)?;
    counted(op.name, stream, options.fully_masked, guards, |guards| {
        let addresses = [x, y, guards];
        if is_plain(&parts, options) {
            let planned = launch(op, E::DTYPE, addresses, (rows, cols), options)?;
            // SAFETY: the views are as long as their shapes require, and are used on this stream.
            return unsafe { run(stream, planned) };
        }
        let planned = launch_masked(op, E::DTYPE, addresses, shape.dims(), &parts, options)?;
        // SAFETY: views and mask parts are as long as their shapes require, and are used on this stream.
        unsafe { run(stream, planned) }
    })
}

/// Launches the planned kernel, if any.
///
/// # Safety
/// The requirements of [`device::run`] apply.
pub unsafe fn run<A: DeviceRepr>(stream: &Arc<CudaStream>, planned: Option<(Launch, A)>) -> Result<()> {
    match planned {
        // SAFETY: the caller meets the requirements of `device::run`.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

/// Returns whether there is no mask, scale or softcap, so that the logits equal the scores.
pub fn is_plain(parts: &Parts, options: &Softmax<'_>) -> bool {
    *parts == Parts::default() && options.scale == 1.0 && options.softcap.is_none()
}

/// Returns an op's kernel for a `rows` × `cols` matrix of scores, and its arguments; `None` if there are no results.
pub fn launch(
    op: &Op,
    dtype: DType,
    [x, y, guards]: [u64; 3],
    (rows, cols): (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    check_plain(op.name, cols, options)?;
    if rows == 0 || (cols == 0 && !op.is_of_rows) {
        return Ok(None);
    }
    let (index, lanes) = of_type(op.name, dtype)?;
    let is_aligned = is_aligned(op, [x, y], cols, lanes);
    let (name, threads, shared) = kernel(op.held_plain, &op.any_plain, index, (cols, lanes), is_aligned);
    let is_uniform = options.fully_masked == FullyMasked::Uniform;
    let uniform = if is_uniform { in_default(|| (1.0 / cols as f64) as f32) } else { 0.0 };
    let arguments = Arguments { x, y, guards, rows: rows as u64, cols: cols as u32, uniform };
    let blocks = rows.min(MOST_BLOCKS) as u32;
    Ok(Some((Launch { source: op.name, kernel: name, blocks, threads, shared }, arguments)))
}

/// Returns the name of the first of the kernels `held` that holds a row, or of `any`; its number of threads, and its
/// number of bytes of dynamic shared memory. `index` is the type's index in the names, and `lanes` the number of
/// elements in sixteen bytes.
pub fn kernel(
    held: &[Kernel],
    any: &Kernel,
    index: usize,
    (cols, lanes): (usize, usize),
    is_aligned: bool,
) -> (&'static str, u32, u32) {
    let is_fit = |of: &&Kernel| {
        (is_aligned || !of.is_for_aligned) && cols <= of.threads * (of.pieces + of.shared_pieces) * lanes
    };
    let of = held.iter().find(is_fit).unwrap_or(any);
    let threads = threads_of(cols, of.pieces * lanes).min(of.threads as u32);
    let pieces = cols.div_ceil(lanes * threads as usize).saturating_sub(of.pieces).min(of.shared_pieces);
    (of.names[index], threads, pieces as u32 * threads * 16)
}

/// Returns the kernel and arguments as [`launch`] does, for rows of this shape with mask, scale and softcap.
pub fn launch_masked(
    op: &Op,
    dtype: DType,
    [x, y, guards]: [u64; 3],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, masked::Arguments)>> {
    let shape = Shape::new(dims)?;
    if shape.elements() == 0 && !op.is_of_rows {
        return Ok(None);
    }
    masked::plan((op.name, op.masked_source), dtype, [x, y, guards], shape, parts, options, |rows| {
        (op.masked)(rows, is_aligned(op, [x, y], rows.cols, rows.lanes))
    })
}

/// Returns the number of threads that hold a row if each thread holds up to `elements` elements.
pub fn threads_of(cols: usize, elements: usize) -> u32 {
    cols.div_ceil(elements).next_power_of_two().max(32) as u32
}

/// Returns whether rows can be read sixteen bytes at a time. If the op has a result for each element, also checks
/// whether the results can be written sixteen bytes at a time.
fn is_aligned(op: &Op, [x, y]: [u64; 2], cols: usize, lanes: usize) -> bool {
    x.is_multiple_of(16) && (op.is_of_rows || y.is_multiple_of(16)) && cols.is_multiple_of(lanes)
}

/// Returns an error if the options are invalid or have a mask, a scale or a softcap, or if a row is too long.
pub fn check_plain(op: &'static str, cols: usize, options: &Softmax<'_>) -> Result<()> {
    options.check(op)?;
    if options.mask.is_some_and(|mask| !mask.is_none()) {
        return Err(Error::invalid(
            op,
            "mask",
            "in the host's memory",
            "a device mask, passed to the function for masked rows",
        ));
    }
    let unmet = |argument, value: f64| {
        Err(Error::invalid(op, argument, value, "unset; the functions for masked rows accept it"))
    };
    if options.scale != 1.0 {
        return unmet("scale", options.scale);
    }
    if let Some(cap) = options.softcap {
        return unmet("softcap", cap);
    }
    if cols > MAX_TERMS {
        return Err(Error::invalid(op, "columns", cols, format!("at most {MAX_TERMS}")));
    }
    Ok(())
}

/// Returns the index of a type's kernels, and the number of elements of this type in sixteen bytes.
pub fn of_type(op: &'static str, dtype: DType) -> Result<(usize, usize)> {
    match dtype {
        DType::F32 => Ok((0, 4)),
        DType::F16 => Ok((1, 8)),
        DType::BF16 => Ok((2, 8)),
        DType::F64 => Err(Error::UnsupportedDType { op, dtype: dtype.to_string(), backend: "cuda" }),
    }
}
