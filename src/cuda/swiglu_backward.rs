//! Gradients of [`swiglu`](crate::swiglu()) with respect to both arguments, on a device.

use super::device::{self, Launch};
use super::elementwise::{MOST_BLOCKS, THREADS};
use super::rows::DeviceElement;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::ops::elementwise::as_long;
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DeviceRepr};
use std::sync::Arc;

const OP: &str = "swiglu_backward";

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    gate: u64,
    up: u64,
    dy: u64,
    dgate: u64,
    dup: u64,
    len: u64,
}

// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Computes [`swiglu_backward`](crate::swiglu_backward()). The results are computed on the stream's device, and are
/// bit-identical to the CPU's. All slices have the same length.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the lengths differ; [`Error::Failed`] if the device fails.
///
/// ```no_run
/// use evenkeel::cuda;
///
/// let stream = cuda::device(0)?.default_stream();
/// let (gate, up) = (stream.clone_htod(&[1.0f32, -1.2784646])?, stream.clone_htod(&[2.0f32, 2.0])?);
/// let dy = stream.clone_htod(&[1.0f32, 1.0])?;
/// let (mut dgate, mut dup) = (stream.alloc_zeros::<f32>(2)?, stream.alloc_zeros::<f32>(2)?);
/// let (to_gate, to_up) = (dgate.as_view_mut(), dup.as_view_mut());
/// cuda::swiglu_backward_into(&stream, gate.as_view(), up.as_view(), dy.as_view(), to_gate, to_up)?;
/// assert_eq!(stream.clone_dtoh(&dgate)?, [1.8553411, -5.6540795e-9]);
/// assert_eq!(stream.clone_dtoh(&dup)?, [0.7310586, -0.27846456]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn swiglu_backward_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    gate: CudaView<'_, E>,
    up: CudaView<'_, E>,
    dy: CudaView<'_, E>,
    mut dgate: CudaViewMut<'_, E>,
    mut dup: CudaViewMut<'_, E>,
) -> Result<()> {
    let len = gate.len();
    for (argument, other) in [("up", up.len()), ("dy", dy.len()), ("dgate", dgate.len()), ("dup", dup.len())] {
        as_long(OP, argument, other, len)?;
    }
    let _caller = device::CallerContext::save();
    let (gate, _gate_read) = device::read((OP, "gate"), &gate, stream)?;
    let (up, _up_read) = device::read((OP, "up"), &up, stream)?;
    let (dy, _dy_read) = device::read((OP, "dy"), &dy, stream)?;
    let (dgate, _dgate_written) = device::write((OP, "dgate"), &mut dgate, stream)?;
    let (dup, _dup_written) = device::write((OP, "dup"), &mut dup, stream)?;
    match launch(E::DTYPE, [gate, up, dy, dgate, dup], len)? {
        // SAFETY: the views have equal lengths, and are used on this stream.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

/// Returns the kernel that computes both gradients, and its arguments; `None` if there are no elements.
///
/// Takes the addresses of gate, up, dy, dgate and dup, which have `len` elements each. Each result may be at the address
/// of an operand. If all addresses are multiples of 16, the kernel moves 16 bytes at a time.
///
/// # Errors
/// [`Error::UnsupportedDType`] for f64.
///
/// # Example
/// ```
/// use evenkeel::DType;
/// use evenkeel::cuda::swiglu_backward::launch;
///
/// let (gate, up, dy) = (0x10_0000, 0x20_0000, 0x30_0000); // addresses on the device
/// let (launch, _arguments) = launch(DType::BF16, [gate, up, dy, gate, up], 4096 * 11008)?.unwrap();
/// assert_eq!(launch.kernel, "swiglu_backward_bf16");
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn launch(dtype: DType, [gate, up, dy, dgate, dup]: [u64; 5], len: usize) -> Result<Option<(Launch, Arguments)>> {
    // `per_thread` is the number of elements in 16 bytes.
    let (kernel, per_thread) = match dtype {
        DType::F32 => ("swiglu_backward_f32", 4),
        DType::F16 => ("swiglu_backward_f16", 8),
        DType::BF16 => ("swiglu_backward_bf16", 8),
        DType::F64 => return Err(Error::UnsupportedDType { op: OP, dtype: dtype.to_string(), backend: "cuda" }),
    };
    if len == 0 {
        return Ok(None);
    }
    let blocks = len.div_ceil(THREADS as usize * per_thread).min(MOST_BLOCKS) as u32;
    let launch = Launch { source: "elementwise_backward_swiglu", kernel, blocks, threads: THREADS, shared: 0 };
    Ok(Some((launch, Arguments { gate, up, dy, dgate, dup, len: len as u64 })))
}
