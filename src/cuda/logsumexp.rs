//! The logarithm of the sum of exponentials of rows on a device.

use super::device::{self, Launch};
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows};
use super::scores::{self, MOST_BLOCKS, Names};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::ops::softmax::Softmax;
use crate::rows::Shape;
use cudarc::driver::{CudaStream, CudaViewMut, DevicePtr, DevicePtrMut, DeviceRepr};
use std::sync::Arc;

const OP: &str = "logsumexp";

/// The kernels' parameter.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    y: u64,
    met: u64,
    rows: u64,
    cols: u64,
}

// SAFETY: integers in C's layout, which the kernels declare alike.
unsafe impl DeviceRepr for Arguments {}

/// [`logsumexp`](crate::logsumexp) of rows on the stream's device, with the same bits: one result for each row. What is
/// masked there is an argument of [`logsumexp_masked_into`].
///
/// # Errors
/// As [`softmax_into`](super::softmax_into).
pub fn logsumexp_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    mut out: CudaViewMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    if scores::has_options(options) {
        return logsumexp_masked_into(stream, x, out, &Mask::none(), options);
    }
    check_len(out.len(), x.rows)?;
    let shape = (x.rows, x.cols);
    let (x, _read) = x.data.device_ptr(stream);
    let (y, _written) = out.device_ptr_mut(stream);
    scores::refusing(OP, stream, options.fully_masked, |met| {
        match launch(E::DTYPE, [x, y, met], shape, options)? {
            // SAFETY: the views hold rows times cols elements and rows of them, and are read and written on this stream.
            Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
            None => Ok(()),
        }
    })
}

fn check_len(len: usize, rows: usize) -> Result<()> {
    if len == rows {
        return Ok(());
    }
    Err(Error::shape(OP, "out", format!("{len} elements"), format!("one for each of {rows} rows")))
}

/// [`logsumexp_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// As [`softmax_masked_into`](super::softmax_masked_into).
pub fn logsumexp_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    mut out: CudaViewMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
) -> Result<()> {
    check_len(out.len(), x.rows)?;
    let shape = x.shape;
    let (parts, _used) = mask.parts(OP, stream)?;
    let (x, _read) = x.data.device_ptr(stream);
    let (y, _written) = out.device_ptr_mut(stream);
    scores::refusing(OP, stream, options.fully_masked, |met| {
        match launch_masked(E::DTYPE, [x, y, met], shape.dims(), &parts, options)? {
            // SAFETY: the views hold as many elements as the shapes say, and are read and written on this stream.
            Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
            None => Ok(()),
        }
    })
}

const NAMES: Names = [
    ["logsumexp_f32_any", "logsumexp_f32_1x4", "logsumexp_f32_8x4", "logsumexp_f32_long"],
    ["logsumexp_f16_any", "logsumexp_f16_1x4", "logsumexp_f16_8x4", "logsumexp_f16_long"],
    ["logsumexp_bf16_any", "logsumexp_bf16_1x4", "logsumexp_bf16_8x4", "logsumexp_bf16_long"],
];

/// Which kernel makes the logarithms of the sums of `rows` rows of `cols` elements, and its arguments; none of no rows.
/// The addresses are of the rows, of as many results, and of what counts rows as in
/// [`softmax::launch`](super::softmax::launch).
///
/// # Errors
/// As [`logsumexp_into`]; [`Error::UnsupportedDType`] for f64.
pub fn launch(
    dtype: DType,
    [x, y, met]: [u64; 3],
    (rows, cols): (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    scores::check_plain(OP, cols, options)?;
    if rows == 0 {
        return Ok(None);
    }
    let (kernel, threads) = scores::kernel(OP, &NAMES, dtype, cols, &[x])?;
    let blocks = rows.min(MOST_BLOCKS) as u32;
    let arguments = Arguments { x, y, met, rows: rows as u64, cols: cols as u64 };
    Ok(Some((Launch { module: OP, kernel, blocks, threads }, arguments)))
}

const MASKED: [&str; 3] = ["logsumexp_masked_f32", "logsumexp_masked_f16", "logsumexp_masked_bf16"];

/// [`launch`] for rows of this shape, with masks, scale and softcap.
///
/// # Errors
/// As [`logsumexp_masked_into`]; [`Error::UnsupportedDType`] for f64.
pub fn launch_masked(
    dtype: DType,
    [x, y, met]: [u64; 3],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, masked::Arguments)>> {
    let shape = Shape::new(dims)?;
    masked::plan((OP, "log_sum_masked"), dtype, [x, y, met], shape, parts, options, |index, _| (MASKED[index], 256))
}
