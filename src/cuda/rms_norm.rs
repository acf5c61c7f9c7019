//! RMSNorm of rows on a device, alone or fused with a residual addition.

use super::device::{self, Launch};
use super::norm::{Kernels, kernels, not_of_the_host, plan, same_shape};
use super::operand::{Operand, TypedDevicePtr, given, one_a_column};
use super::rows::{DeviceElement, Rows, RowsMut};
use crate::element::DType;
use crate::error::Result;
use crate::ops::rms_norm::{RmsNorm, Rounding};
use cudarc::driver::{CudaStream, DeviceRepr};
use std::sync::Arc;

const OP: &str = "rms_norm";
const KERNELS: Kernels = Kernels { names: kernels!("rms_norm"), threads: [1024, 1024], copied: 1 };

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    y: u64,
    residual: u64,
    sum: u64,
    weight: u64,
    rows: u64,
    weight_offset: f64,
    eps: f64,
    cols: u32,
    weight_type: u32,
    may_be_narrow: u32,
    before_weight: u32,
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Computes [`rms_norm`](crate::rms_norm) of rows on the stream's device. The results are bit-identical to the CPU's.
/// The weight is an argument, not an option.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the lengths do not match;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for invalid options, or a weight in the options;
/// [`Error::Failed`](crate::Error::Failed) if the device fails.
pub fn rms_norm_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    weight: Option<Operand<'_>>,
    mut out: RowsMut<'_, E>,
    options: &RmsNorm<'_>,
) -> Result<()> {
    same_shape(OP, "out", out.shape(), &x)?;
    one_a_column(OP, "weight", weight.as_ref().map(|weight| weight.len()), x.cols)?;
    let shape = x.shape();
    let _caller = device::CallerContext::save();
    let (x, _read) = device::read((OP, "x"), &x.data, stream)?;
    let (y, _written) = device::write((OP, "out"), &mut out.data, stream)?;
    let weight = weight.as_ref().map(|weight| weight.at((OP, "weight"), stream)).transpose()?;
    let weight = weight.as_ref().map(|(at, _)| *at);
    if let Some((launch, arguments)) = launch(E::DTYPE, [x, y], None, weight, shape, options)? {
        // SAFETY: the views have the lengths that the kernel accesses, and are used on this stream.
        unsafe { device::run(stream, &launch, &arguments)? };
    }
    Ok(())
}

/// Computes [`rms_norm_residual`](crate::rms_norm_residual) of rows on the stream's device. The results are
/// bit-identical to the CPU's. Writes the sum `x + residual` to `residual_out`, and the norm of the sum to `out`.
///
/// # Errors
/// The errors of [`rms_norm_into`].
pub fn rms_norm_residual_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    [x, residual]: [Rows<'_, E>; 2],
    weight: Option<Operand<'_>>,
    [mut out, mut residual_out]: [RowsMut<'_, E>; 2],
    options: &RmsNorm<'_>,
) -> Result<()> {
    same_shape(OP, "residual", residual.shape(), &x)?;
    same_shape(OP, "out", out.shape(), &x)?;
    same_shape(OP, "residual_out", residual_out.shape(), &x)?;
    one_a_column(OP, "weight", weight.as_ref().map(|weight| weight.len()), x.cols)?;
    let shape = x.shape();
    let _caller = device::CallerContext::save();
    let (x, _x_read) = device::read((OP, "x"), &x.data, stream)?;
    let (residual, _residual_read) = device::read((OP, "residual"), &residual.data, stream)?;
    let (y, _y_written) = device::write((OP, "out"), &mut out.data, stream)?;
    let (sum, _sum_written) = device::write((OP, "residual_out"), &mut residual_out.data, stream)?;
    let weight = weight.as_ref().map(|weight| weight.at((OP, "weight"), stream)).transpose()?;
    let weight = weight.as_ref().map(|(at, _)| *at);
    if let Some((launch, arguments)) = launch(E::DTYPE, [x, y], Some([residual, sum]), weight, shape, options)? {
        // SAFETY: the views have the lengths that the kernel accesses, and are used on this stream.
        unsafe { device::run(stream, &launch, &arguments)? };
    }
    Ok(())
}

/// Returns the kernel that normalises each row of a `rows` × `cols` matrix, and its arguments; `None` if there are no
/// elements.
///
/// `x` and `y` are the addresses of the input and output rows. If there is a residual, `residual` holds its address,
/// and the address for the sum of the input and the residual. The kernel then normalises the sum. Each output may be at
/// the address of the input rows or of the residual.
///
/// # Errors
/// The errors of [`rms_norm_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch(
    dtype: DType,
    [x, y]: [u64; 2],
    residual: Option<[u64; 2]>,
    weight: Option<TypedDevicePtr>,
    (rows, cols): (usize, usize),
    options: &RmsNorm<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    not_of_the_host(OP, "weight", options.weight.is_some())?;
    options.check(OP)?;
    let [residual, sum] = residual.unwrap_or_default();
    let (address, weight_type) = given(OP, weight)?;
    let launch = plan(OP, &KERNELS, dtype, (rows, cols), [x, y, residual, sum], &[weight])?;
    let before_weight = options.rounding == Rounding::BeforeWeight;
    Ok(launch.map(|launch| {
        let arguments = Arguments {
            x,
            y,
            residual,
            sum,
            weight: address,
            rows: rows as u64,
            weight_offset: options.weight_offset,
            eps: options.eps,
            cols: cols as u32,
            weight_type,
            may_be_narrow: u32::from(options.weight_offset == 0.0 && !before_weight),
            before_weight: u32::from(before_weight),
        };
        (launch, arguments)
    }))
}
