//! Softmax of rows on a device.

use super::device::Launch;
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows, RowsMut, same_shape};
pub use super::scores::Arguments;
use super::scores::{self, Kernel, Op};
use crate::element::DType;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use cudarc::driver::CudaStream;
use std::sync::Arc;

const OP: Op = Op {
    name: "softmax",
    is_of_rows: false,
    held_plain: &[
        Kernel {
            names: ["softmax_f32_1x4", "softmax_f16_1x4", "softmax_bf16_1x4"],
            threads: 32,
            pieces: 4,
            is_for_aligned: true,
        },
        Kernel {
            names: ["softmax_f32_8x4", "softmax_f16_8x4", "softmax_bf16_8x4"],
            threads: 256,
            pieces: 4,
            is_for_aligned: true,
        },
    ],
    any_plain: Kernel {
        names: ["softmax_f32_any", "softmax_f16_any", "softmax_bf16_any"],
        threads: 512,
        pieces: 8,
        is_for_aligned: false,
    },
    masked_source: "softmax_masked",
    masked: ["softmax_masked_f32_any", "softmax_masked_f16_any", "softmax_masked_bf16_any"],
    held: Some(["softmax_masked_f32_8x4", "softmax_masked_f16_8x4", "softmax_masked_bf16_8x4"]),
};

/// Computes [`softmax`](crate::softmax) of rows on the stream's device. The results are bit-identical to the CPU's. For
/// a device mask, use [`softmax_masked_into`].
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the shapes do not match;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for options out of range, or a mask in the options;
/// [`Error::Failed`](crate::Error::Failed) if the device fails. [`Error::FullyMasked`](crate::Error::FullyMasked) for a
/// fully masked row, under the policy [`FullyMasked::Error`](crate::FullyMasked::Error). Under this policy, the host
/// waits for the stream.
pub fn softmax_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    out: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    softmax_masked_into(stream, x, out, &Mask::none(), options)
}

/// Computes [`softmax_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// The errors of [`softmax_into`], including for a host mask in the options; also
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for more than two mask parts of one kind.
pub fn softmax_masked_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    out: RowsMut<'_, E>,
    mask: &Mask<'_>,
    options: &Softmax<'_>,
) -> Result<()> {
    same_shape(OP.name, &out, &x)?;
    scores::into(&OP, stream, x, out.data, mask, options)
}

/// Returns the kernel that computes softmax for each row of a `rows` × `cols` matrix, and its arguments; `None` if
/// there are no elements.
///
/// Takes the addresses of the rows, of the results, and of four 64-bit counters on the device. The last address is 0 if
/// there are no counters. Rows and results may be at the same address. The kernel increases the first three counters by
/// the number of rows with NaN, of rows with +inf, and of fully masked rows. It lowers the fourth counter to the index
/// of the first fully masked row.
///
/// # Errors
/// The errors of [`softmax_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
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
/// The errors of [`softmax_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_masked(
    dtype: DType,
    addresses: [u64; 3],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, masked::Arguments)>> {
    scores::launch_masked(&OP, dtype, addresses, dims, parts, options)
}
