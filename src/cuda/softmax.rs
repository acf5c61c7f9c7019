//! Softmax of rows on a device.

use super::device::Launch;
use super::mask::{Mask, Parts};
use super::masked;
use super::rows::{DeviceElement, Rows, RowsMut, same_shape};
pub use super::scores::Arguments;
use super::scores::{self, Op};
use crate::element::DType;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use cudarc::driver::CudaStream;
use std::sync::Arc;

const OP: Op = Op {
    name: "softmax",
    is_of_rows: false,
    plain: [
        ["softmax_f32_any", "softmax_f32_1x4", "softmax_f32_8x4", "softmax_f32_long"],
        ["softmax_f16_any", "softmax_f16_1x4", "softmax_f16_8x4", "softmax_f16_long"],
        ["softmax_bf16_any", "softmax_bf16_1x4", "softmax_bf16_8x4", "softmax_bf16_long"],
    ],
    shrinks: true,
    wide: Some(["softmax_f32_16x8", "softmax_f16_16x8", "softmax_bf16_16x8"]),
    masked_source: "softmax_masked",
    masked: ["softmax_masked_f32_any", "softmax_masked_f16_any", "softmax_masked_bf16_any"],
    held: Some(["softmax_masked_f32_8x4", "softmax_masked_f16_8x4", "softmax_masked_bf16_8x4"]),
};

/// [`softmax`](crate::softmax) of rows on the stream's device, with the same bits. What is masked there is an argument
/// of [`softmax_masked_into`].
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), [`Error::InvalidArgument`](crate::Error::InvalidArgument) for
/// options out of their range and for a mask in them, [`Error::Backend`](crate::Error::Backend).
/// [`Error::FullyMasked`](crate::Error::FullyMasked) under that policy, for which the host waits for the stream.
pub fn softmax_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    out: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    softmax_masked_into(stream, x, out, &Mask::none(), options)
}

/// [`softmax_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// # Errors
/// As [`softmax_into`], where the mask in the options is the host's; also
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for more than two parts of a kind.
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

/// Which kernel makes softmax of `rows` rows of `cols` elements, and its arguments; none of no elements.
///
/// The addresses are of the rows, of the results, which may be the same, and of four 64-bit integers on the device, or
/// 0: the numbers of rows with NaN, with +inf and without a logit are added to them, and the last becomes the index of
/// the first row without a logit, if that is smaller.
///
/// # Errors
/// As [`softmax_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch(
    dtype: DType,
    addresses: [u64; 3],
    shape: (usize, usize),
    options: &Softmax<'_>,
) -> Result<Option<(Launch, Arguments)>> {
    scores::launch(&OP, dtype, addresses, shape, options)
}

/// [`launch`] for rows of this shape, with masks, scale and softcap.
///
/// # Errors
/// As [`softmax_masked_into`]; [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64.
pub fn launch_masked(
    dtype: DType,
    addresses: [u64; 3],
    dims: &[usize],
    parts: &Parts,
    options: &Softmax<'_>,
) -> Result<Option<(Launch, masked::Arguments)>> {
    scores::launch_masked(&OP, dtype, addresses, dims, parts, options)
}
