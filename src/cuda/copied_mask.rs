//! Device copies of masks in the host's memory.

use super::device;
use super::mask::{Bias, Mask};
use crate::error::Result;
use crate::floats::Floats;
use cudarc::driver::{CudaSlice, CudaStream};
use half::{bf16, f16};
use std::sync::Arc;

/// A copy of a [`crate::Mask`] in a device's memory. It must outlive its [`mask`](CopiedMask::mask).
///
/// ```no_run
/// use evenkeel::Mask;
/// use evenkeel::cuda::{self, CopiedMask};
///
/// let stream = cuda::device(0)?.default_stream();
/// let copied = CopiedMask::new(&stream, &Mask::lengths(&[3, 5]).and_causal())?;
/// let mask: cuda::Mask<'_> = copied.mask();
/// # let _ = mask;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct CopiedMask {
    keep: Vec<(CudaSlice<u8>, Vec<usize>)>,
    bias: Vec<(CopiedBias, Vec<usize>)>,
    lengths: Vec<CudaSlice<u64>>,
    causal: bool,
    window: Option<usize>,
    offset: Option<isize>,
}

#[derive(Debug)]
enum CopiedBias {
    F64(CudaSlice<f64>),
    F32(CudaSlice<f32>),
    F16(CudaSlice<f16>),
    BF16(CudaSlice<bf16>),
}

impl CopiedMask {
    /// Copies the parts to the stream's device.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend).
    pub fn new(stream: &Arc<CudaStream>, mask: &crate::Mask<'_>) -> Result<Self> {
        let keep =
            mask.keep.iter().map(|(flags, shape)| Ok((device::check(stream.clone_htod(&**flags))?, shape.clone())));
        let bias = mask.bias.iter().map(|(bias, shape)| {
            let copy = match bias.floats() {
                Floats::F64(values) => CopiedBias::F64(device::check(stream.clone_htod(values))?),
                Floats::F32(values) => CopiedBias::F32(device::check(stream.clone_htod(values))?),
                Floats::F16(values) => CopiedBias::F16(device::check(stream.clone_htod(values))?),
                Floats::BF16(values) => CopiedBias::BF16(device::check(stream.clone_htod(values))?),
            };
            Ok((copy, shape.clone()))
        });
        let lengths = mask.lengths.iter().map(|lengths| {
            let lengths: Vec<u64> = lengths.iter().map(|&length| length as u64).collect();
            device::check(stream.clone_htod(&lengths))
        });
        Ok(CopiedMask {
            keep: keep.collect::<Result<_>>()?,
            bias: bias.collect::<Result<_>>()?,
            lengths: lengths.collect::<Result<_>>()?,
            causal: mask.causal,
            window: mask.window,
            offset: mask.offset,
        })
    }

    /// Returns a device mask that refers to the copied parts.
    pub fn mask(&self) -> Mask<'_> {
        let mut mask = Mask { causal: self.causal, window: self.window, offset: self.offset, ..Mask::none() };
        for (flags, shape) in &self.keep {
            mask = mask.and_keep(flags.as_view(), shape);
        }
        for (bias, shape) in &self.bias {
            let bias: Bias<'_> = match bias {
                CopiedBias::F64(values) => values.as_view().into(),
                CopiedBias::F32(values) => values.as_view().into(),
                CopiedBias::F16(values) => values.as_view().into(),
                CopiedBias::BF16(values) => values.as_view().into(),
            };
            mask = mask.and_bias(bias, shape);
        }
        for lengths in &self.lengths {
            mask = mask.and_lengths(lengths.as_view());
        }
        mask
    }
}
