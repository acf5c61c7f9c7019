//! The logarithm of softmax of rows on a device.

use super::device::{self, Launch};
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows, RowsMut, same_shape};
use super::scores::{self, MOST_BLOCKS, Names};
use crate::element::DType;
use crate::error::Result;
use crate::mask::FullyMasked;
use crate::ops::softmax::Softmax;
use crate::rows::Shape;
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceRepr};
use std::sync::Arc;

const OP: &str = "log_softmax";

/// The kernels' parameter.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    y: u64,
    met: u64,
    rows: u64,
    cols: u32,
    uniform: u32,
}

// SAFETY: integers in C's layout, which the kernels declare alike.
unsafe impl DeviceRepr for Arguments {}

/// [`log_softmax`](crate::log_softmax) of rows on the stream's device, with the same bits. What is masked there is an argument of
/// [`log_softmax_masked_into`].
///
/// # Errors
/// As [`softmax_into`](super::softmax_into).
pub fn log_softmax_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    mut out: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    if scores::has_options(options) {
        return log_softmax_masked_into(stream, x, out, &Mask::none(), options);
    }
    same_shape(OP, &out, &x)?;
    let shape = (x.rows, x.cols);
    let (x, _read) = x.data.device_ptr(stream);
    let (y, _written) = out.data.device_ptr_mut(stream);
    scores::refusing(OP, stream, options.fully_masked, |met| {
        match launch(E::DTYPE, [x, y, met], shape, options)? {
            // SAFETY: the views hold rows times cols elements each, and are read and written on this stream.
            Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
            None => Ok(()),
        }
    })
}

/// [`log_softmax_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// As [`softmax_masked_into`](super::softmax_masked_into).
pub fn log_softmax_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    mut out: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
) -> Result<()> {
    same_shape(OP, &out, &x)?;
    let shape = x.shape;
    let (parts, _used) = mask.parts(OP, stream)?;
    let (x, _read) = x.data.device_ptr(stream);
    let (y, _written) = out.data.device_ptr_mut(stream);
    scores::refusing(OP, stream, options.fully_masked, |met| {
        match launch_masked(E::DTYPE, [x, y, met], shape.dims(), &parts, options)? {
            // SAFETY: the views hold as many elements as the shapes say, and are read and written on this stream.
            Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
            None => Ok(()),
        }
    })
}

const NAMES: Names = [
    ["log_softmax_f32_any", "log_softmax_f32_1x4", "log_softmax_f32_8x4", "log_softmax_f32_long"],
    ["log_softmax_f16_any", "log_softmax_f16_1x4", "log_softmax_f16_8x4", "log_softmax_f16_long"],
    ["log_softmax_bf16_any", "log_softmax_bf16_1x4", "log_softmax_bf16_8x4", "log_softmax_bf16_long"],
];

/// Which kernel makes the logarithm of softmax of `rows` rows of `cols` elements, and its arguments; none of no elements.
/// The addresses are as those of [`softmax::launch`](super::softmax::launch).
///
/// # Errors
/// As [`log_softmax_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch(
    dtype: DType,
    [x, y, met]: [u64; 3],
    (rows, cols): (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    scores::check_plain(OP, cols, options)?;
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let (kernel, threads) = scores::kernel(OP, &NAMES, dtype, cols, &[x, y])?;
    let blocks = rows.min(MOST_BLOCKS) as u32;
    let uniform = u32::from(options.fully_masked == FullyMasked::Uniform);
    let arguments = Arguments { x, y, met, rows: rows as u64, cols: cols as u32, uniform };
    Ok(Some((Launch { module: OP, kernel, blocks, threads }, arguments)))
}

const MASKED: [&str; 3] = ["log_softmax_masked_f32", "log_softmax_masked_f16", "log_softmax_masked_bf16"];

/// [`launch`] for rows of this shape, with masks, scale and softcap.
///
/// # Errors
/// As [`log_softmax_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_masked(
    dtype: DType,
    [x, y, met]: [u64; 3],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, masked::Arguments)>> {
    let shape = Shape::new(dims)?;
    if shape.elements() == 0 {
        return Ok(None);
    }
    masked::plan((OP, "log_sum_masked"), dtype, [x, y, met], shape, parts, options, |index, _| (MASKED[index], 256))
}
