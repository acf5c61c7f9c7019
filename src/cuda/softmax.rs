//! Softmax of rows on a device.

use super::device::{self, Launch};
use super::rows::{DeviceElement, Rows, RowsMut};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::mask::FullyMasked;
use crate::math::sum::MAX_TERMS;
use crate::ops::softmax::Softmax;
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

/// [`softmax`](crate::softmax) of rows on the stream's device, with the same bits. Masks, scale and softcap are not there
/// yet.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::InvalidArgument`] for options that are not there yet, [`Error::Backend`].
/// [`Error::FullyMasked`] under that policy, for which the host waits for the stream.
pub fn softmax_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    mut out: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    if (out.rows, out.cols) != (x.rows, x.cols) {
        let (got, expected) = (format!("{} rows of {}", out.rows, out.cols), format!("{} rows of {}", x.rows, x.cols));
        return Err(Error::shape(OP, "out", got, expected));
    }
    let (rows, cols) = (x.rows, x.cols);
    let (x, _read) = x.data.device_ptr(stream);
    let (y, _written) = out.data.device_ptr_mut(stream);
    let refuses = options.fully_masked == FullyMasked::Error;
    let mut met = if refuses { Some(device::check(stream.clone_htod(&[0, 0, 0, u64::MAX]))?) } else { None };
    {
        let met = met.as_mut().map(|met| met.device_ptr_mut(stream));
        let at = met.as_ref().map_or(0, |(at, _)| *at);
        if let Some((launch, arguments)) = launch(E::DTYPE, [x, y, at], (rows, cols), options)? {
            // SAFETY: the views hold rows times cols elements each, and are read and written on this stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
    }
    if let Some(met) = met {
        let counts = device::check(stream.clone_dtoh(&met))?;
        if counts[2] > 0 {
            return Err(Error::FullyMasked { op: OP, row: counts[3] as usize });
        }
    }
    Ok(())
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
    options.check(OP)?;
    let unmet = |argument, value: String| Err(Error::invalid(OP, argument, value, "left out on CUDA devices"));
    if options.mask.is_some_and(|mask| !mask.is_none()) {
        return unmet("mask", "given".to_string());
    }
    if options.scale != 1.0 {
        return unmet("scale", options.scale.to_string());
    }
    if let Some(cap) = options.softcap {
        return unmet("softcap", cap.to_string());
    }
    if cols > MAX_TERMS {
        return Err(Error::invalid(OP, "columns", cols, format!("at most {MAX_TERMS}")));
    }
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let (kernel, threads) = kernel(dtype, cols, [x, y])?;
    let blocks = rows.min(MOST_BLOCKS) as u32;
    let uniform = u32::from(options.fully_masked == FullyMasked::Uniform);
    let arguments = Arguments { x, y, met, rows: rows as u64, cols: cols as u32, uniform };
    Ok(Some((Launch { module: OP, kernel, blocks, threads }, arguments)))
}

/// Blocks take more than one row beyond this.
const MOST_BLOCKS: usize = 1 << 20;

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
