//! Gradients of LayerNorm on a device.

use super::device::Launch;
use super::norm::not_of_the_host;
use super::norm_backward::{self, Norm};
use super::operand::{Operand, OperandMut, TypedDevicePtr};
use super::rows::{DeviceElement, Rows, RowsMut};
use crate::element::DType;
use crate::error::Result;
use crate::ops::layer_norm::LayerNorm;
use cudarc::driver::CudaStream;
use std::sync::Arc;

pub use super::norm_backward::{Arguments, Columns, workspace_len};

const OP: &str = "layer_norm_backward";

fn norm(options: &LayerNorm<'_>) -> Result<Norm> {
    not_of_the_host(OP, "weight", options.weight.is_some())?;
    not_of_the_host(OP, "bias", options.bias.is_some())?;
    options.check(OP)?;
    Ok(Norm { op: OP, weight_offset: 0.0, eps: options.eps, is_centred: true, is_rounded: false })
}

/// Computes [`layer_norm_backward_into`](crate::layer_norm_backward_into) on the stream's device. The results are
/// bit-identical to the CPU's. The weight is an argument, not an option. The bias does not affect the gradients.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the lengths do not match;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for invalid options, or a weight or bias in the options;
/// [`Error::Failed`](crate::Error::Failed) if the device fails.
pub fn layer_norm_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    [x, dy]: [Rows<'_, E>; 2],
    weight: Option<Operand<'_>>,
    dx: RowsMut<'_, E>,
    gradients: [Option<OperandMut<'_>>; 2],
    options: &LayerNorm<'_>,
) -> Result<()> {
    norm_backward::into(stream, &norm(options)?, [x, dy], weight, dx, gradients)
}

/// Returns the kernels that compute the gradients for a `rows` × `cols` matrix, in launch order, with their arguments.
///
/// Takes the addresses of x, dy and dx. dx must not be at the address of x. dx may be at the address of dy only if no
/// gradient of the weight or bias is requested.
///
/// # Errors
/// The errors of [`layer_norm_backward_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launches(
    dtype: DType,
    addresses: [u64; 3],
    weight: Option<TypedDevicePtr>,
    columns: Columns,
    shape: (usize, usize),
    options: &LayerNorm<'_>,
) -> Result<Vec<(Launch, Arguments)>> {
    norm_backward::launches(&norm(options)?, dtype, addresses, weight, columns, shape)
}
