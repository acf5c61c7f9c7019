//! The gradients of softmax and log_softmax of rows on a device.

use super::device::{self, Launch};
use super::rows::{DeviceElement, Rows, RowsMut, same_shape};
use super::scores::{self, MOST_BLOCKS};
use crate::element::DType;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceRepr};
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

/// By type, for any rows and for those that a block holds in its registers.
type Names = [[&'static str; 2]; 3];

const OF_SOFTMAX: Names = [
    ["softmax_backward_f32_any", "softmax_backward_f32_8x4"],
    ["softmax_backward_f16_any", "softmax_backward_f16_8x4"],
    ["softmax_backward_bf16_any", "softmax_backward_bf16_8x4"],
];
const OF_LOG_SOFTMAX: Names = [
    ["log_softmax_backward_f32_any", "log_softmax_backward_f32_8x4"],
    ["log_softmax_backward_f16_any", "log_softmax_backward_f16_8x4"],
    ["log_softmax_backward_bf16_any", "log_softmax_backward_bf16_8x4"],
];

/// [`softmax_backward`](crate::softmax_backward()) of rows on the stream's device, with the same bits. Masks, scale and
/// softcap are not there yet.
///
/// # Errors
/// As [`softmax_into`](super::softmax_into), and for options that are not there yet.
pub fn softmax_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    into("softmax_backward", launch_softmax, stream, [x, dy], dx, options)
}

/// [`log_softmax_backward`](crate::log_softmax_backward()) of rows on the stream's device, with the same bits. Masks, scale
/// and softcap are not there yet.
///
/// # Errors
/// As [`softmax_backward_into`].
pub fn log_softmax_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    dy: Rows<'_, E>,
    dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    into("log_softmax_backward", launch_log_softmax, stream, [x, dy], dx, options)
}

type Launcher = fn(DType, [u64; 4], (usize, usize), &Softmax<'_>) -> Result<Option<(Launch, Arguments)>>;

fn into<E: DeviceElement>(
    op: &'static str,
    launch: Launcher,
    stream: &Arc<CudaStream>,
    [x, dy]: [Rows<'_, E>; 2],
    mut dx: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    same_shape(op, &dx, &x)?;
    same_shape(op, &dx, &dy)?;
    let shape = (x.rows, x.cols);
    let (x, _read) = x.data.device_ptr(stream);
    let (dy, _read_too) = dy.data.device_ptr(stream);
    let (dx, _written) = dx.data.device_ptr_mut(stream);
    scores::refusing(op, stream, options.fully_masked, |met| {
        match launch(E::DTYPE, [x, dy, dx, met], shape, options)? {
            // SAFETY: the views hold rows times cols elements each, and are read and written on this stream.
            Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
            None => Ok(()),
        }
    })
}

/// Which kernel makes the gradients of `rows` rows of `cols` scores from those of their softmax, and its arguments; none of
/// no elements. The addresses are of the scores, of the gradients that are known, of those that are made, which may be the
/// same, and of what counts rows as in [`softmax::launch`](super::softmax::launch): rows of finite scores whose gradients
/// are not finite are added too.
///
/// # Errors
/// As [`softmax_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_softmax(
    dtype: DType,
    addresses: [u64; 4],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    launch("softmax_backward", &OF_SOFTMAX, dtype, addresses, shape, options)
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
    launch("log_softmax_backward", &OF_LOG_SOFTMAX, dtype, addresses, shape, options)
}

fn launch(
    op: &'static str,
    names: &Names,
    dtype: DType,
    [x, dy, dx, met]: [u64; 4],
    (rows, cols): (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    scores::check_plain(op, cols, options)?;
    let (index, lanes) = scores::of_type(op, dtype)?;
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let is_aligned = (x | dy | dx).is_multiple_of(16) && cols.is_multiple_of(lanes);
    let kernel = names[index][usize::from(is_aligned && cols <= 256 * 4 * lanes)];
    let arguments = Arguments { x, dy, dx, met, rows: rows as u64, cols: cols as u64 };
    Ok(Some((Launch { module: op, kernel, blocks: rows.min(MOST_BLOCKS) as u32, threads: 256 }, arguments)))
}
