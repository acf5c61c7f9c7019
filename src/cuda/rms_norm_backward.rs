//! Gradients of RMSNorm on a device.

use super::device::Launch;
use super::norm::not_of_the_host;
use super::norm_backward::{self, Norm};
use super::operand::{Operand, OperandMut, TypedDevicePtr};
use super::rows::{DeviceElement, Rows, RowsMut};
use crate::element::DType;
use crate::error::Result;
use crate::ops::rms_norm::{RmsNorm, Rounding};
use cudarc::driver::CudaStream;
use std::sync::Arc;

pub use super::norm_backward::{Arguments, Columns, workspace_len};

const OP: &str = "rms_norm_backward";

fn norm(options: &RmsNorm<'_>) -> Result<Norm> {
    not_of_the_host(OP, "weight", options.weight.is_some())?;
    options.check(OP)?;
    let is_rounded = options.rounding == Rounding::BeforeWeight;
    Ok(Norm { op: OP, weight_offset: options.weight_offset, eps: options.eps, is_centred: false, is_rounded })
}

/// Computes [`rms_norm_backward_into`](crate::rms_norm_backward_into) on the stream's device. The results are
/// bit-identical to the CPU's. The weight is an argument, not an option.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the lengths do not match;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for invalid options, or a weight in the options;
/// [`Error::Failed`](crate::Error::Failed) if the device fails.
pub fn rms_norm_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    [x, dy]: [Rows<'_, E>; 2],
    weight: Option<Operand<'_>>,
    dx: RowsMut<'_, E>,
    dweight: Option<OperandMut<'_>>,
    options: &RmsNorm<'_>,
) -> Result<()> {
    norm_backward::into(stream, &norm(options)?, [x, dy], weight, dx, [dweight, None])
}

/// Returns the kernels that compute the gradients for a `rows` × `cols` matrix, in launch order, with their arguments.
///
/// Takes the addresses of x, dy and dx. dx must not be at the address of x. dx may be at the address of dy only if the
/// gradient of the weight is not requested.
///
/// # Errors
/// The errors of [`rms_norm_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launches(
    dtype: DType,
    addresses: [u64; 3],
    weight: Option<TypedDevicePtr>,
    columns: Columns,
    shape: (usize, usize),
    options: &RmsNorm<'_>,
) -> Result<Vec<(Launch, Arguments)>> {
    norm_backward::launches(&norm(options)?, dtype, addresses, weight, columns, shape)
}
