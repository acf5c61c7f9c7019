//! The gradients of softmax, log_softmax and logsumexp of rows on a device.

use super::device::Launch;
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows, RowsMut, one_a_row, same_shape};
use super::scores::{self, MOST_BLOCKS};
use crate::element::DType;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Shape;
use cudarc::driver::{CudaStream, CudaView, DevicePtr, DevicePtrMut, DeviceRepr};
use std::sync::Arc;

/// The kernels' parameter.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    dy: u64,
    dx: u64,
    met: u64,
    rows: u64,
    cols: u64,
}

// SAFETY: integers in C's layout, which the kernels declare alike.
unsafe impl DeviceRepr for Arguments {}

/// The parameter of kernels of rows with masks, scale and softcap.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MaskedArguments {
    scores: masked::Arguments,
    dy: u64,
    of: u64,
}

// SAFETY: numbers in C's layout without gaps, which the kernels declare alike.
unsafe impl DeviceRepr for MaskedArguments {}

/// What tells one op's gradient from another's.
struct Op {
    name: &'static str,
    /// By type, for any rows and for those that a block holds in its registers.
    kernels: [[&'static str; 2]; 3],
    /// What kernels of rows with masks know it by.
    of: u64,
    /// dy has one element for each row.
    is_of_rows: bool,
}

const SOFTMAX: Op = Op {
    name: "softmax_backward",
    kernels: [
        ["softmax_backward_f32_any", "softmax_backward_f32_8x4"],
        ["softmax_backward_f16_any", "softmax_backward_f16_8x4"],
        ["softmax_backward_bf16_any", "softmax_backward_bf16_8x4"],
    ],
    of: 0,
    is_of_rows: false,
};
const LOG_SOFTMAX: Op = Op {
    name: "log_softmax_backward",
    kernels: [
        ["log_softmax_backward_f32_any", "log_softmax_backward_f32_8x4"],
        ["log_softmax_backward_f16_any", "log_softmax_backward_f16_8x4"],
        ["log_softmax_backward_bf16_any", "log_softmax_backward_bf16_8x4"],
    ],
    of: 1,
    is_of_rows: false,
};
const LOGSUMEXP: Op = Op {
    name: "logsumexp_backward",
    kernels: [
        ["logsumexp_backward_f32_any", "logsumexp_backward_f32_8x4"],
        ["logsumexp_backward_f16_any", "logsumexp_backward_f16_8x4"],
        ["logsumexp_backward_bf16_any", "logsumexp_backward_bf16_8x4"],
    ],
    of: 2,
    is_of_rows: true,
};

/// By type, for any rows and for those that a block holds in its registers, which have no bias, no softcap
/// and one of [`masked::SCALES`].
const MASKED: [[&str; 2]; 3] = [
    ["masked_backward_f32_any", "masked_backward_f32_8x4"],
    ["masked_backward_f16_any", "masked_backward_f16_8x4"],
    ["masked_backward_bf16_any", "masked_backward_bf16_8x4"],
];

/// [`softmax_backward`](crate::softmax_backward()) of rows on the stream's device, with the same bits. What is masked
/// there is an argument of [`softmax_backward_masked_into`].
///
/// # Errors
/// As [`softmax_into`](super::softmax_into).
pub fn softmax_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    softmax_backward_masked_into(stream, x, dy, dx, &Mask::none(), options)
}

/// [`softmax_backward_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// As [`softmax_masked_into`](super::softmax_masked_into).
pub fn softmax_backward_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
) -> Result<()> {
    same_shape(SOFTMAX.name, &dx, &dy)?;
    into(&SOFTMAX, stream, x, dy.data, dx, mask, options)
}

/// [`log_softmax_backward`](crate::log_softmax_backward()) of rows on the stream's device, with the same bits. What is
/// masked there is an argument of [`log_softmax_backward_masked_into`].
///
/// # Errors
/// As [`softmax_into`](super::softmax_into).
pub fn log_softmax_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    log_softmax_backward_masked_into(stream, x, dy, dx, &Mask::none(), options)
}

/// [`log_softmax_backward_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// As [`softmax_masked_into`](super::softmax_masked_into).
pub fn log_softmax_backward_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
) -> Result<()> {
    same_shape(LOG_SOFTMAX.name, &dx, &dy)?;
    into(&LOG_SOFTMAX, stream, x, dy.data, dx, mask, options)
}

/// [`logsumexp_backward`](crate::logsumexp_backward()) of rows on the stream's device, with the same bits: `dy` has one
/// element for each row. What is masked there is an argument of [`logsumexp_backward_masked_into`].
///
/// # Errors
/// As [`softmax_into`](super::softmax_into).
pub fn logsumexp_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: CudaView<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    logsumexp_backward_masked_into(stream, x, dy, dx, &Mask::none(), options)
}

/// [`logsumexp_backward_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// As [`softmax_masked_into`](super::softmax_masked_into).
pub fn logsumexp_backward_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: CudaView<'_, E>,
    dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
) -> Result<()> {
    one_a_row(LOGSUMEXP.name, "dy", dy.len(), x.rows)?;
    into(&LOGSUMEXP, stream, x, dy, dx, mask, options)
}

/// `dy` is as long as the op's results are many, which the caller has checked.
fn into<E: DeviceElement>(
    op: &Op,
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: CudaView<'_, E>,
    mut dx: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
) -> Result<()> {
    same_shape(op.name, &dx, &x)?;
    let (parts, _used) = mask.parts(op.name, stream)?;
    let (rows, cols, shape) = (x.rows, x.cols, x.shape);
    let (x, _read) = x.data.device_ptr(stream);
    let (dy, _read_too) = dy.device_ptr(stream);
    let (dx, _written) = dx.data.device_ptr_mut(stream);
    scores::refusing(op.name, stream, options.fully_masked, |met| {
        let addresses = [x, dy, dx, met];
        if scores::is_plain(&parts, options) {
            let planned = launch(op, E::DTYPE, addresses, (rows, cols), options)?;
            // SAFETY: the views hold as many elements as the shapes say, and are read and written on this stream.
            return unsafe { scores::run(stream, planned) };
        }
        let planned = launch_masked(op, E::DTYPE, addresses, shape.dims(), &parts, options)?;
        // SAFETY: as above, for the mask's parts too.
        unsafe { scores::run(stream, planned) }
    })
}

/// Which kernel makes the gradients of `rows` rows of `cols` scores from those of their softmax, and its arguments;
/// none of no elements. The addresses are of the scores, of the gradients that are known, of those that are made, which
/// may be the same as either, and of what counts rows as in [`softmax::launch`](super::softmax::launch): rows of finite
/// scores whose gradients are not finite are added too.
///
/// # Errors
/// As [`softmax_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_softmax(
    dtype: DType,
    addresses: [u64; 4],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    launch(&SOFTMAX, dtype, addresses, shape, options)
}

/// [`launch_softmax`] for rows of this shape, with masks, scale and softcap.
///
/// # Errors
/// As [`softmax_backward_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_softmax_masked(
    dtype: DType,
    addresses: [u64; 4],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, MaskedArguments)>> {
    launch_masked(&SOFTMAX, dtype, addresses, dims, parts, options)
}

/// As [`launch_softmax`], for log_softmax.
///
/// # Errors
/// As [`log_softmax_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_log_softmax(
    dtype: DType,
    addresses: [u64; 4],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    launch(&LOG_SOFTMAX, dtype, addresses, shape, options)
}

/// As [`launch_softmax_masked`], for log_softmax.
///
/// # Errors
/// As [`log_softmax_backward_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_log_softmax_masked(
    dtype: DType,
    addresses: [u64; 4],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, MaskedArguments)>> {
    launch_masked(&LOG_SOFTMAX, dtype, addresses, dims, parts, options)
}

/// As [`launch_softmax`], for logsumexp: one gradient is known for each row.
///
/// # Errors
/// As [`logsumexp_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_logsumexp(
    dtype: DType,
    addresses: [u64; 4],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    launch(&LOGSUMEXP, dtype, addresses, shape, options)
}

/// As [`launch_softmax_masked`], for logsumexp: one gradient is known for each row.
///
/// # Errors
/// As [`logsumexp_backward_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
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
    [x, dy, dx, met]: [u64; 4],
    (rows, cols): (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    scores::check_plain(op.name, cols, options)?;
    let (index, lanes) = scores::of_type(op.name, dtype)?;
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let kernel = op.kernels[index][usize::from(is_held(op, [x, dy, dx], cols, lanes))];
    let arguments = Arguments { x, dy, dx, met, rows: rows as u64, cols: cols as u64 };
    Ok(Some((Launch { source: op.name, kernel, blocks: rows.min(MOST_BLOCKS) as u32, threads: 256 }, arguments)))
}

fn launch_masked(
    op: &Op,
    dtype: DType,
    [x, dy, dx, met]: [u64; 4],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, MaskedArguments)>> {
    let shape = Shape::new(dims)?;
    if shape.elements() == 0 {
        return Ok(None);
    }
    let has_products = parts.bias.is_empty() && options.softcap.is_none() && masked::SCALES.contains(&options.scale);
    let kernel =
        |index: usize, cols, lanes| MASKED[index][usize::from(has_products && is_held(op, [x, dy, dx], cols, lanes))];
    let planned = masked::plan((op.name, "masked_backward"), dtype, [x, dx, met], shape, parts, options, kernel)?;
    Ok(planned.map(|(launch, scores)| (launch, MaskedArguments { scores, dy, of: op.of })))
}

/// Whether a block holds a row in its registers, and rows are read and written sixteen bytes at a time.
fn is_held(op: &Op, [x, dy, dx]: [u64; 3], cols: usize, lanes: usize) -> bool {
    let of_elements = if op.is_of_rows { x | dx } else { x | dy | dx };
    of_elements.is_multiple_of(16) && cols.is_multiple_of(lanes) && cols <= 256 * 4 * lanes
}
