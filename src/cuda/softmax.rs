//! Softmax of rows on a device.

use super::device::Launch;
use super::guards::Guards;
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
            shared_pieces: 0,
            is_for_aligned: true,
        },
        Kernel {
            names: ["softmax_f32_8x4", "softmax_f16_8x4", "softmax_bf16_8x4"],
            threads: 256,
            pieces: 4,
            shared_pieces: 0,
            is_for_aligned: true,
        },
        any(512, 0),
        any(256, 27),
    ],
    any_plain: any(512, 28),
    masked_source: "softmax_masked",
    masked: kernel_of_masked,
};

const fn any(threads: usize, shared_pieces: usize) -> Kernel {
    let names = ["softmax_f32_any", "softmax_f16_any", "softmax_bf16_any"];
    Kernel { names, threads, pieces: 8, shared_pieces, is_for_aligned: false }
}

/// Names of a type's kernels. The first list is for rows without a bias. Its four kernels are, in this order: for rows
/// that are read one element at a time, for rows that fit in the registers of 256 threads, for rows that fit in the
/// registers of 512 threads, and for longer rows. The second list is for rows with a bias. Its three kernels are, in
/// this order: for rows that are read one element at a time, for rows that fit in registers, and for longer rows.
macro_rules! masked {
    ($type:literal) => {
        (
            [
                concat!("softmax_masked_", $type, "_any"),
                concat!("softmax_masked_", $type, "_8x4"),
                concat!("softmax_masked_", $type, "_16x8"),
                concat!("softmax_masked_", $type, "_long"),
            ],
            [
                concat!("softmax_masked_", $type, "_bias_any"),
                concat!("softmax_masked_", $type, "_bias_16x4"),
                concat!("softmax_masked_", $type, "_bias_long"),
            ],
        )
    };
}
const MASKED: [([&str; 4], [&str; 3]); 3] = [masked!("f32"), masked!("f16"), masked!("bf16")];

fn kernel_of_masked(rows: &masked::Rows, is_aligned: bool) -> (&'static str, u32) {
    let ([any, of_block, of_512, long], [biased, biased_of_512, biased_long]) = MASKED[rows.index];
    match (rows.is_biased, is_aligned && rows.is_aligned && rows.is_narrow) {
        (false, false) => (any, 256),
        (false, true) if rows.fit(256, 4) => (of_block, rows.threads(4)),
        (false, true) if rows.fit(512, 8) => (of_512, rows.threads(8)),
        (false, true) => (long, 512),
        (true, false) => (biased, 256),
        (true, true) if rows.fit(512, 4) => (biased_of_512, rows.threads(4)),
        (true, true) => (biased_long, 512),
    }
}

/// Computes [`softmax`](crate::softmax) of rows on the stream's device. The results are bit-identical to the CPU's. For
/// a device mask, use [`softmax_masked_into`].
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the shapes do not match;
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for options out of range, or a mask in the options;
/// [`Error::Failed`](crate::Error::Failed) if the device fails. [`Error::FullyMasked`](crate::Error::FullyMasked) for a
/// fully masked row, under the policy [`FullyMasked::Error`](crate::FullyMasked::Error). Under this policy, the host
/// waits for the stream, so a captured stream gives [`Error::InvalidArgument`](crate::Error::InvalidArgument).
pub fn softmax_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    x: Rows<'_, E>,
    out: RowsMut<'_, E>,
    options: &Softmax<'_>,
) -> Result<()> {
    softmax_masked_into(stream, x, out, &Mask::none(), options, None)
}

/// Computes [`softmax_into`] of rows with a mask, which broadcasts to the shape of `x`.
///
/// If `guards` are given, the call counts rows in them, and the host never waits: under the policy
/// [`FullyMasked::Error`](crate::FullyMasked::Error), a fully masked row gets the result of
/// [`FullyMasked::Zeros`](crate::FullyMasked::Zeros), and [`Guards::take`] returns the number of such rows.
///
/// # Errors
/// The errors of [`softmax_into`], including for a host mask in the options; also
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for more than two mask parts of one kind, or for
/// guards on another device.
pub fn softmax_masked_into<E: DeviceElement>(
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
