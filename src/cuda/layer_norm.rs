//! LayerNorm of rows on a device.

use super::device::{self, Launch};
use super::norm::{Kernels, kernels, not_of_the_host, plan, same_shape};
use super::operand::{Operand, TypedDevicePtr, given, one_a_column};
use super::rows::{DeviceElement, Rows, RowsMut};
use crate::element::DType;
use crate::error::Result;
use crate::ops::layer_norm::LayerNorm;
use cudarc::driver::{CudaStream, DeviceRepr};
use std::sync::Arc;

const OP: &str = "layer_norm";
const KERNELS: Kernels = Kernels { names: kernels!("layer_norm"), threads: [1024, 1024], copied: 1 };

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    y: u64,
    weight: u64,
    bias: u64,
    rows: u64,
    eps: f64,
    cols: u32,
    weight_type: u32,
    bias_type: u32,
    unused: u32,
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Computes [`layer_norm`](crate::layer_norm) of rows on the stream's device. The results are bit-identical to the
/// CPU's. The weight and the bias are arguments, not options.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the lengths do not match;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for invalid options, or a weight or bias in the options;
/// [`Error::Failed`](crate::Error::Failed) if the device fails.
pub fn layer_norm_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    [weight, bias]: [Option<Operand<'_>>; 2],
    mut out: RowsMut<'_, E>,
    options: &LayerNorm<'_>,
) -> Result<()> {
    same_shape(OP, "out", out.shape(), &x)?;
    one_a_column(OP, "weight", weight.as_ref().map(|weight| weight.len()), x.cols)?;
    one_a_column(OP, "bias", bias.as_ref().map(|bias| bias.len()), x.cols)?;
    let shape = x.shape();
    let _caller = device::CallerContext::save();
    let (x, _read) = device::read((OP, "x"), &x.data, stream)?;
    let (y, _written) = device::write((OP, "out"), &mut out.data, stream)?;
    let weight = weight.as_ref().map(|weight| weight.at((OP, "weight"), stream)).transpose()?;
    let bias = bias.as_ref().map(|bias| bias.at((OP, "bias"), stream)).transpose()?;
    let operands = [&weight, &bias].map(|operand| operand.as_ref().map(|(at, _)| *at));
    if let Some((launch, arguments)) = launch(E::DTYPE, [x, y], operands, shape, options)? {
        // SAFETY: the views have the lengths that the kernel accesses, and are used on this stream.
        unsafe { device::run(stream, &launch, &arguments)? };
    }
    Ok(())
}

/// Returns the kernel that normalises each row of a `rows` × `cols` matrix, and its arguments; `None` if there are no
/// elements.
///
/// `x` and `y` are the addresses of the input and output rows, which may be equal.
///
/// # Errors
/// The errors of [`layer_norm_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch(
    dtype: DType,
    [x, y]: [u64; 2],
    [weight, bias]: [Option<TypedDevicePtr>; 2],
    (rows, cols): (usize, usize),
    options: &LayerNorm<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    not_of_the_host(OP, "weight", options.weight.is_some())?;
    not_of_the_host(OP, "bias", options.bias.is_some())?;
    options.check(OP)?;
    let launch = plan(OP, &KERNELS, dtype, (rows, cols), [x, y], &[weight, bias])?;
    let ((weight, weight_type), (bias, bias_type)) = (given(OP, weight)?, given(OP, bias)?);
    Ok(launch.map(|launch| {
        let (rows, cols) = (rows as u64, cols as u32);
        (launch, Arguments { x, y, weight, bias, rows, eps: options.eps, cols, weight_type, bias_type, unused: 0 })
    }))
}
