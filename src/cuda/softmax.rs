//! Softmax of rows on a device.

use super::device::{self, Launch};
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows, RowsMut, same_shape};
use super::scores::{self, MOST_BLOCKS};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::mask::FullyMasked;
use crate::ops::softmax::Softmax;
use crate::rows::Shape;
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceRepr};
use std::sync::Arc;

const OP: &str = "softmax";

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

/// [`softmax`](crate::softmax) of rows on the stream's device, with the same bits. What is masked there is an argument of
/// [`softmax_masked_into`].
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::InvalidArgument`] for options out of their range and for a mask in them,
/// [`Error::Backend`]. [`Error::FullyMasked`] under that policy, for which the host waits for the stream.
pub fn softmax_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    mut out: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    if scores::has_options(options) {
        return softmax_masked_into(stream, x, out, &Mask::none(), options);
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

/// [`softmax_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::InvalidArgument`] for a mask in the options, which is the host's, and for more than
/// two parts of a kind, [`Error::Backend`]. [`Error::FullyMasked`] under that policy, for which the host waits for the
/// stream.
pub fn softmax_masked_into<E: DeviceElement>(
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

/// Which kernel makes softmax of `rows` rows of `cols` elements, and its arguments; none of no elements.
///
/// The addresses are of the rows, of the results, which may be the same, and of four 64-bit integers on the device, or 0:
/// the numbers of rows with NaN, with +inf and without a logit are added to them, and the last becomes the index of the
/// first row without a logit, if that is smaller.
///
/// # Errors
/// As [`softmax_into`]; [`Error::UnsupportedDType`] for f64.
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
    let (kernel, threads) = kernel(dtype, cols, [x, y])?;
    let blocks = rows.min(MOST_BLOCKS) as u32;
    let uniform = u32::from(options.fully_masked == FullyMasked::Uniform);
    let arguments = Arguments { x, y, met, rows: rows as u64, cols: cols as u32, uniform };
    Ok(Some((Launch { module: OP, kernel, blocks, threads }, arguments)))
}

/// The smallest kernel that holds a row in its registers, and how many threads its blocks have.
fn kernel(dtype: DType, cols: usize, addresses: [u64; 2]) -> Result<(&'static str, u32)> {
    let (names, lanes) = match dtype {
        DType::F32 => {
            (["softmax_f32_any", "softmax_f32_1x4", "softmax_f32_8x4", "softmax_f32_16x8", "softmax_f32_long"], 4)
        }
        DType::F16 => {
            (["softmax_f16_any", "softmax_f16_1x4", "softmax_f16_8x4", "softmax_f16_16x8", "softmax_f16_long"], 8)
        }
        DType::BF16 => {
            (["softmax_bf16_any", "softmax_bf16_1x4", "softmax_bf16_8x4", "softmax_bf16_16x8", "softmax_bf16_long"], 8)
        }
        DType::F64 => return Err(Error::UnsupportedDType { op: OP, dtype: dtype.to_string(), backend: "cuda" }),
    };
    let is_aligned = addresses.iter().all(|address| address.is_multiple_of(16)) && cols.is_multiple_of(lanes);
    let held = |threads: usize, pieces: usize| threads * pieces * lanes;
    Ok(match cols {
        _ if !is_aligned => (names[0], 256),
        cols if cols <= held(32, 4) => (names[1], 32),
        cols if cols <= held(256, 4) => (names[2], 256),
        cols if cols <= held(512, 8) => (names[3], 512),
        _ => (names[4], 1024),
    })
}

/// By type, for any rows and for those that a block holds in its registers, which have no bias.
const MASKED: [[&str; 2]; 3] = [
    ["softmax_masked_f32_any", "softmax_masked_f32_8x4"],
    ["softmax_masked_f16_any", "softmax_masked_f16_8x4"],
    ["softmax_masked_bf16_any", "softmax_masked_bf16_8x4"],
];

/// [`launch`] for rows of this shape, with masks, scale and softcap.
///
/// # Errors
/// As [`softmax_masked_into`]; [`Error::UnsupportedDType`] for f64.
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
    masked::plan((OP, "softmax_masked"), dtype, [x, y, met], shape, parts, options, |index, lanes| {
        let cols = dims[dims.len() - 1];
        let is_aligned = (x | y).is_multiple_of(16) && cols.is_multiple_of(lanes);
        let is_held = is_aligned && cols <= 256 * 4 * lanes && parts.bias.is_empty();
        (MASKED[index][usize::from(is_held)], 256)
    })
}
