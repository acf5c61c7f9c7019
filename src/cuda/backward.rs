//! Gradients of softmax, log_softmax and logsumexp of rows on a device.

use super::device::{self, Launch};
use super::guards::{Guards, counted};
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows, RowsMut, one_a_row, same_shape};
use super::scores::{self, MOST_BLOCKS_HELD};
use crate::element::DType;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Shape;
use cudarc::driver::{CudaStream, CudaView, DeviceRepr};
use std::sync::Arc;

/// Arguments of the kernels for rows without mask, scale and softcap.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    dy: u64,
    dx: u64,
    guards: u64,
    rows: u64,
    cols: u64,
}

// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Arguments of the kernels for rows with mask, scale and softcap.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MaskedArguments {
    scores: masked::Arguments,
    dy: u64,
    of: u64,
}

// SAFETY: the struct has plain numbers in C layout without padding, as the kernels declare it.
unsafe impl DeviceRepr for MaskedArguments {}

/// Kernels and properties of the gradient of one op.
struct Op {
    name: &'static str,
    /// Kernel names by type. The first of a type's four kernels takes any row. The others hold an aligned row in
    /// registers, in pieces of sixteen bytes: in up to 256 threads with 4 pieces each, in 256 threads with 8 pieces
    /// each, and in 512 threads with 8 pieces each.
    kernels: [[&'static str; 4]; 3],
    /// Number by which the kernels for masked rows select the op.
    of: u64,
    /// Whether dy has one element for each row.
    is_of_rows: bool,
}

macro_rules! kernels {
    ($op:literal, $type:literal) => {
        [
            concat!($op, "_", $type, "_any"),
            concat!($op, "_", $type, "_8x4"),
            concat!($op, "_", $type, "_8x8"),
            concat!($op, "_", $type, "_16x8"),
        ]
    };
    ($op:literal) => {
        [kernels!($op, "f32"), kernels!($op, "f16"), kernels!($op, "bf16")]
    };
}

const SOFTMAX: Op = Op { name: "softmax_backward", kernels: kernels!("softmax_backward"), of: 0, is_of_rows: false };
const LOG_SOFTMAX: Op =
    Op { name: "log_softmax_backward", kernels: kernels!("log_softmax_backward"), of: 1, is_of_rows: false };
const LOGSUMEXP: Op =
    Op { name: "logsumexp_backward", kernels: kernels!("logsumexp_backward"), of: 2, is_of_rows: true };

/// Kernel names by type. The first kernel takes any row. The others take rows that fit in the registers of a block. A
/// block of the second kernel has up to 256 threads, and a block of the third has up to 512.
const MASKED: [[&str; 3]; 3] = [
    ["masked_backward_f32_any", "masked_backward_f32_256", "masked_backward_f32_512"],
    ["masked_backward_f16_any", "masked_backward_f16_256", "masked_backward_f16_512"],
    ["masked_backward_bf16_any", "masked_backward_bf16_256", "masked_backward_bf16_512"],
];
/// Maximum number of 16-byte pieces per thread in a block of 512 threads, by type.
const PIECES_OF_512: [usize; 3] = [8, 4, 4];

/// Computes [`softmax_backward`](crate::softmax_backward()) of rows on the stream's device. The results are
/// bit-identical to the CPU's. For a device mask, use [`softmax_backward_masked_into`].
///
/// # Errors
/// The errors of [`softmax_into`](super::softmax_into).
pub fn softmax_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    softmax_backward_masked_into(stream, x, dy, dx, &Mask::none(), options, None)
}

/// Computes [`softmax_backward_into`] of rows with a mask, which broadcasts to the shape of `x`. `guards` have the
/// meaning that [`softmax_masked_into`](super::softmax_masked_into) describes.
///
/// # Errors
/// The errors of [`softmax_masked_into`](super::softmax_masked_into).
pub fn softmax_backward_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
    guards: Option<&mut Guards>,
) -> Result<()> {
    same_shape(SOFTMAX.name, &dx, &dy)?;
    into(&SOFTMAX, stream, x, dy.data, dx, mask, (options, guards))
}

/// Computes [`log_softmax_backward`](crate::log_softmax_backward()) of rows on the stream's device. The results are
/// bit-identical to the CPU's. For a device mask, use [`log_softmax_backward_masked_into`].
///
/// # Errors
/// The errors of [`softmax_into`](super::softmax_into).
pub fn log_softmax_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    log_softmax_backward_masked_into(stream, x, dy, dx, &Mask::none(), options, None)
}

/// Computes [`log_softmax_backward_into`] of rows with a mask, which broadcasts to the shape of `x`. `guards` have the
/// meaning that [`softmax_masked_into`](super::softmax_masked_into) describes.
///
/// # Errors
/// The errors of [`softmax_masked_into`](super::softmax_masked_into).
pub fn log_softmax_backward_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
    guards: Option<&mut Guards>,
) -> Result<()> {
    same_shape(LOG_SOFTMAX.name, &dx, &dy)?;
    into(&LOG_SOFTMAX, stream, x, dy.data, dx, mask, (options, guards))
}

/// Computes [`logsumexp_backward`](crate::logsumexp_backward()) of rows on the stream's device. The results are
/// bit-identical to the CPU's. `dy` has one element for each row. For a device mask, use
/// [`logsumexp_backward_masked_into`].
///
/// # Errors
/// The errors of [`softmax_into`](super::softmax_into).
pub fn logsumexp_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: CudaView<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    logsumexp_backward_masked_into(stream, x, dy, dx, &Mask::none(), options, None)
}

/// Computes [`logsumexp_backward_into`] of rows with a mask, which broadcasts to the shape of `x`. `guards` have the
/// meaning that [`softmax_masked_into`](super::softmax_masked_into) describes.
///
/// # Errors
/// The errors of [`softmax_masked_into`](super::softmax_masked_into).
pub fn logsumexp_backward_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: CudaView<'_, E>,
    dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
    guards: Option<&mut Guards>,
) -> Result<()> {
    one_a_row(LOGSUMEXP.name, "dy", dy.len(), x.rows)?;
    into(&LOGSUMEXP, stream, x, dy, dx, mask, (options, guards))
}

/// Computes the gradient of an op. The caller must have checked that `dy` has one element for each result of the op.
fn into<E: DeviceElement>(
    op: &Op,
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: CudaView<'_, E>,
    mut dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    (options, guards): (&Softmax<'_>, Option<&mut Guards>),
) -> Result<()> {
    same_shape(op.name, &dx, &x)?;
    let _caller = device::CallerContext::save();
    let (parts, _used) = mask.parts(op.name, stream)?;
    let (rows, cols, shape) = (x.rows, x.cols, x.shape);
    let (x, _read) = device::read((op.name, "x"), &x.data, stream)?;
    let (dy, _read_too) = device::read((op.name, "dy"), &dy, stream)?;
    let (dx, _written) = device::write((op.name, "dx"), &mut dx.data, stream)?;
    counted(op.name, stream, options.fully_masked, guards, |guards| {
        let addresses = [x, dy, dx, guards];
        if scores::is_plain(&parts, options) {
            let planned = launch(op, E::DTYPE, addresses, (rows, cols), options)?;
            // SAFETY: the views are as long as their shapes require, and are used on this stream.
            return unsafe { scores::run(stream, planned) };
        }
        let planned = launch_masked(op, E::DTYPE, addresses, shape.dims(), &parts, options)?;
        // SAFETY: views and mask parts are as long as their shapes require, and are used on this stream.
        unsafe { scores::run(stream, planned) }
    })
}

/// Returns the kernel for the gradient of softmax on a `rows` × `cols` matrix of scores, and its arguments; `None` if
/// there are no elements.
///
/// Takes the addresses of the scores, of the incoming gradients, of the gradients to be written, and of the counters
/// described at [`softmax::launch`](super::softmax::launch). The output may be at the address of either input. If all
/// scores of a row are finite but an incoming gradient is not, the counters count this row too.
///
/// # Errors
/// The errors of [`softmax_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_softmax(
    dtype: DType,
    addresses: [u64; 4],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    launch(&SOFTMAX, dtype, addresses, shape, options)
}

/// Returns the kernel and arguments as [`launch_softmax`] does, for rows of this shape with mask, scale and softcap.
///
/// # Errors
/// The errors of [`softmax_backward_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_softmax_masked(
    dtype: DType,
    addresses: [u64; 4],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, MaskedArguments)>> {
    launch_masked(&SOFTMAX, dtype, addresses, dims, parts, options)
}

/// Returns the kernel and arguments as [`launch_softmax`] does, for the gradient of log_softmax.
///
/// # Errors
/// The errors of [`log_softmax_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_log_softmax(
    dtype: DType,
    addresses: [u64; 4],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    launch(&LOG_SOFTMAX, dtype, addresses, shape, options)
}

/// Returns the kernel and arguments as [`launch_softmax_masked`] does, for the gradient of log_softmax.
///
/// # Errors
/// The errors of [`log_softmax_backward_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for
/// f64.
pub fn launch_log_softmax_masked(
    dtype: DType,
    addresses: [u64; 4],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, MaskedArguments)>> {
    launch_masked(&LOG_SOFTMAX, dtype, addresses, dims, parts, options)
}

/// Returns the kernel and arguments as [`launch_softmax`] does, for the gradient of logsumexp. There is one incoming
/// gradient for each row.
///
/// # Errors
/// The errors of [`logsumexp_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_logsumexp(
    dtype: DType,
    addresses: [u64; 4],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    launch(&LOGSUMEXP, dtype, addresses, shape, options)
}

/// Returns the kernel and arguments as [`launch_softmax_masked`] does, for the gradient of logsumexp. There is one
/// incoming gradient for each row.
///
/// # Errors
/// The errors of [`logsumexp_backward_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for
/// f64.
pub fn launch_logsumexp_masked(
    dtype: DType,
    addresses: [u64; 4],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, MaskedArguments)>> {
    launch_masked(&LOGSUMEXP, dtype, addresses, dims, parts, options)
}

fn launch(
    op: &Op,
    dtype: DType,
    [x, dy, dx, guards]: [u64; 4],
    (rows, cols): (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    scores::check_plain(op.name, cols, options)?;
    let (index, lanes) = scores::of_type(op.name, dtype)?;
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let [any, of_four, of_eight, of_512] = op.kernels[index];
    let held = |threads: usize, pieces: usize| threads * pieces * lanes;
    let is_aligned = is_aligned(op, [x, dy, dx], cols, lanes);
    let (kernel, threads, most_blocks) = match cols {
        cols if is_aligned && cols <= held(256, 4) => (of_four, scores::threads_of(cols, 4 * lanes), MOST_BLOCKS_HELD),
        cols if is_aligned && cols <= held(256, 8) => (of_eight, 256, MOST_BLOCKS_HELD),
        cols if is_aligned && cols <= held(512, 8) => (of_512, 512, MOST_BLOCKS_HELD),
        _ => (any, scores::threads_of(cols, 4 * lanes).min(512), MOST_BLOCKS_HELD),
    };
    let arguments = Arguments { x, dy, dx, guards, rows: rows as u64, cols: cols as u64 };
    Ok(Some((Launch { source: op.name, kernel, blocks: rows.min(most_blocks) as u32, threads, shared: 0 }, arguments)))
}

fn launch_masked(
    op: &Op,
    dtype: DType,
    [x, dy, dx, guards]: [u64; 4],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, MaskedArguments)>> {
    let shape = Shape::new(dims)?;
    if shape.elements() == 0 {
        return Ok(None);
    }
    let kernel = |rows: &masked::Rows| {
        rows.kernel_without_bias(&MASKED, PIECES_OF_512[rows.index], is_aligned(op, [x, dy, dx], rows.cols, rows.lanes))
    };
    let planned = masked::plan((op.name, "masked_backward"), dtype, [x, dx, guards], shape, parts, options, kernel)?;
    Ok(planned.map(|(launch, scores)| (launch, MaskedArguments { scores, dy, of: op.of })))
}

/// Returns whether rows can be read and written sixteen bytes at a time.
fn is_aligned(op: &Op, [x, dy, dx]: [u64; 3], cols: usize, lanes: usize) -> bool {
    let of_elements = if op.is_of_rows { x | dx } else { x | dy | dx };
    of_elements.is_multiple_of(16) && cols.is_multiple_of(lanes)
}
