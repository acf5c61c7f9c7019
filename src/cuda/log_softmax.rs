//! Log-softmax of rows on a device.

use super::device::Launch;
use super::guards::Guards;
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows, RowsMut, same_shape};
pub use super::scores::Arguments;
use super::scores::{self, Kernel, Op, masked_kernels};
use crate::element::DType;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use cudarc::driver::CudaStream;
use std::sync::Arc;

const OP: Op = Op {
    name: "log_softmax",
    is_of_rows: false,
    // An element in shared memory takes more instructions than one in registers, so rows that fit in the registers of
    // a block use no shared memory.
    held_plain: &[of_8x8(0), any(1024, 0), of_8x8(18), any(512, 13)],
    any_plain: any(1024, 14),
    masked_source: "log_sum_masked",
    masked: |rows, is_aligned| rows.kernel_without_bias(&MASKED, 8, is_aligned),
};

const fn of_8x8(shared_pieces: usize) -> Kernel {
    let names = ["log_softmax_f32_8x8", "log_softmax_f16_8x8", "log_softmax_bf16_8x8"];
    Kernel { names, threads: 256, pieces: 8, shared_pieces, is_for_aligned: false }
}

const fn any(threads: usize, shared_pieces: usize) -> Kernel {
    let names = ["log_softmax_f32_any", "log_softmax_f16_any", "log_softmax_bf16_any"];
    Kernel { names, threads, pieces: 4, shared_pieces, is_for_aligned: false }
}

const MASKED: [[&str; 3]; 3] = masked_kernels!("log_softmax");

/// Computes [`log_softmax`](crate::log_softmax) of rows on the stream's device. The results are bit-identical to the
/// CPU's. For a device mask, use [`log_softmax_masked_into`].
///
/// # Errors
/// The errors of [`softmax_into`](super::softmax_into).
pub fn log_softmax_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    out: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    log_softmax_masked_into(stream, x, out, &Mask::none(), options, None)
}

/// Computes [`log_softmax_into`] of rows with a mask, which broadcasts to the shape of `x`. `guards` have the meaning
/// that [`softmax_masked_into`](super::softmax_masked_into) describes.
///
/// # Errors
/// The errors of [`softmax_masked_into`](super::softmax_masked_into).
pub fn log_softmax_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    out: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
    guards: Option<&mut Guards>,
) -> Result<()> {
    same_shape(OP.name, &out, &x)?;
    scores::into(&OP, stream, x, out.data, mask, options, guards)
}

/// Returns the kernel that computes log-softmax for each row of a `rows` × `cols` matrix, and its arguments; `None` if
/// there are no elements. The addresses are as for [`softmax::launch`](super::softmax::launch).
///
/// # Errors
/// The errors of [`log_softmax_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch(
    dtype: DType,
    addresses: [u64; 3],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    scores::launch(&OP, dtype, addresses, shape, options)
}

/// Returns the kernel and arguments as [`launch`] does, for rows of this shape with mask, scale and softcap.
///
/// # Errors
/// The errors of [`log_softmax_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_masked(
    dtype: DType,
    addresses: [u64; 3],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, masked::Arguments)>> {
    scores::launch_masked(&OP, dtype, addresses, dims, parts, options)
}
