//! Attention masks in a device's memory.

use super::device;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::Floats;
use cudarc::driver::{CudaSlice, CudaStream, CudaView, DeviceRepr, SyncOnDrop};
use half::{bf16, f16};
use std::sync::Arc;

/// A mask whose flags, biases and lengths are in a device's memory. The rules of [`crate::Mask`] apply: a position is
/// unmasked only if every part allows it, and parts broadcast by NumPy's rules. A device mask has at most two parts of
/// each kind.
///
/// ```
/// use evenkeel::cuda::Mask;
/// let mask = Mask::causal().and_window(4096);
/// # let _ = mask;
/// ```
#[derive(Debug, Default)]
pub struct Mask<'a> {
    keep: Vec<(MaskData<'a, u8>, Vec<usize>)>,
    bias: Vec<(Bias<'a>, Vec<usize>)>,
    lengths: Vec<MaskData<'a, u64>>,
    causal: bool,
    window: Option<usize>,
    offset: Option<isize>,
}

/// Data of a mask on a device, converted from a view or an owned slice with `into()`.
#[derive(Debug)]
#[non_exhaustive]
pub enum MaskData<'a, T> {
    /// Data that the caller owns.
    View(CudaView<'a, T>),
    /// Data that the mask owns.
    Owned(CudaSlice<T>),
}

impl<'a, T> From<CudaView<'a, T>> for MaskData<'a, T> {
    fn from(view: CudaView<'a, T>) -> Self {
        MaskData::View(view)
    }
}

impl<T> From<CudaSlice<T>> for MaskData<'_, T> {
    fn from(slice: CudaSlice<T>) -> Self {
        MaskData::Owned(slice)
    }
}

impl<T: DeviceRepr> MaskData<'static, T> {
    fn copy(stream: &Arc<CudaStream>, values: &[T]) -> Result<Self> {
        Ok(device::check(stream.clone_htod(values))?.into())
    }
}

impl<T> MaskData<'_, T> {
    fn len(&self) -> usize {
        match self {
            MaskData::View(view) => view.len(),
            MaskData::Owned(slice) => slice.len(),
        }
    }

    /// Returns the address and a guard. `stream` may use the address until the guard is dropped.
    fn address<'s>(&'s self, op: &'static str, stream: &'s CudaStream) -> Result<(u64, SyncOnDrop<'s>)> {
        match self {
            MaskData::View(view) => device::read((op, "mask"), view, stream),
            MaskData::Owned(slice) => device::read((op, "mask"), slice, stream),
        }
    }
}

/// An additive bias on a device, converted from a view or an owned slice with `into()`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Bias<'a> {
    /// binary64
    F64(MaskData<'a, f64>),
    /// binary32
    F32(MaskData<'a, f32>),
    /// binary16
    F16(MaskData<'a, f16>),
    /// bfloat16
    BF16(MaskData<'a, bf16>),
}

macro_rules! biases {
    ($($variant:ident: $type:ty),*) => {
        $(impl<'a> From<CudaView<'a, $type>> for Bias<'a> {
            fn from(values: CudaView<'a, $type>) -> Self {
                Bias::$variant(values.into())
            }
        }

        impl From<CudaSlice<$type>> for Bias<'_> {
            fn from(values: CudaSlice<$type>) -> Self {
                Bias::$variant(values.into())
            }
        })*

        impl Bias<'static> {
            fn copy(stream: &Arc<CudaStream>, values: Floats<'_>) -> Result<Self> {
                Ok(match values {
                    $(Floats::$variant(values) => Bias::$variant(MaskData::copy(stream, values)?)),*
                })
            }
        }

        impl Bias<'_> {
            /// Returns the address, a guard, the type and the length. `stream` may use the address until the guard is
            /// dropped.
            fn address<'s>(
                &'s self,
                op: &'static str,
                stream: &'s CudaStream,
            ) -> Result<(u64, SyncOnDrop<'s>, DType, usize)> {
                match self {
                    $(Bias::$variant(data) => {
                        let (address, guard) = data.address(op, stream)?;
                        Ok((address, guard, DType::$variant, data.len()))
                    })*
                }
            }
        }
    };
}
biases!(F64: f64, F32: f32, F16: f16, BF16: bf16);

impl Mask<'static> {
    /// Copies a mask from the host's memory to the stream's device.
    ///
    /// ```no_run
    /// use evenkeel::{Mask, cuda};
    ///
    /// let stream = cuda::device(0)?.default_stream();
    /// let mask = cuda::Mask::copy(&stream, &Mask::lengths(&[3, 5]).and_causal())?;
    /// # let _ = mask;
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Failed`] if the device fails.
    pub fn copy(stream: &Arc<CudaStream>, mask: &crate::Mask<'_>) -> Result<Self> {
        let _caller = device::CallerContext::save();
        let keep = mask.keep.iter().map(|(flags, shape)| Ok((MaskData::copy(stream, flags)?, shape.clone())));
        let bias = mask.bias.iter().map(|(bias, shape)| Ok((Bias::copy(stream, bias.floats())?, shape.clone())));
        let lengths = mask.lengths.iter().map(|lengths| {
            let lengths: Vec<u64> = lengths.iter().map(|&length| length as u64).collect();
            MaskData::copy(stream, &lengths)
        });
        Ok(Mask {
            keep: keep.collect::<Result<_>>()?,
            bias: bias.collect::<Result<_>>()?,
            lengths: lengths.collect::<Result<_>>()?,
            causal: mask.causal,
            window: mask.window,
            offset: mask.offset,
        })
    }
}

impl<'a> Mask<'a> {
    /// Returns a mask that masks nothing.
    pub fn none() -> Self {
        Mask::default()
    }

    /// Returns a causal mask, as [`crate::Mask::causal`] does.
    pub fn causal() -> Self {
        Mask::none().and_causal()
    }

    /// Returns a mask from flags of the given shape; a position is unmasked if its flag is not 0.
    pub fn keep(flags: impl Into<MaskData<'a, u8>>, shape: &[usize]) -> Self {
        Mask::none().and_keep(flags, shape)
    }

    /// Returns a mask from a bias of the given shape. The bias is added to the scores, and a bias of -inf masks a
    /// position.
    pub fn bias(values: impl Into<Bias<'a>>, shape: &[usize]) -> Self {
        Mask::none().and_bias(values, shape)
    }

    /// Returns a mask that leaves only the first n keys of each row unmasked. `lengths` has one n for all rows, or one
    /// for each entry of the first axis. If n exceeds the number of keys, all keys are unmasked.
    pub fn lengths(lengths: impl Into<MaskData<'a, u64>>) -> Self {
        Mask::none().and_lengths(lengths)
    }

    /// Returns a sliding-window mask, as [`crate::Mask::window`] does.
    pub fn window(keys: usize) -> Self {
        Mask::none().and_window(keys)
    }

    /// Adds causality, as [`crate::Mask::and_causal`] does.
    pub fn and_causal(self) -> Self {
        Self { causal: true, ..self }
    }

    /// Adds flags as described at [`Mask::keep`].
    pub fn and_keep(mut self, flags: impl Into<MaskData<'a, u8>>, shape: &[usize]) -> Self {
        self.keep.push((flags.into(), shape.to_vec()));
        self
    }

    /// Adds a bias as described at [`Mask::bias`]. Two biases are added one after the other, in f64.
    pub fn and_bias(mut self, values: impl Into<Bias<'a>>, shape: &[usize]) -> Self {
        self.bias.push((values.into(), shape.to_vec()));
        self
    }

    /// Adds lengths as described at [`Mask::lengths`].
    pub fn and_lengths(mut self, lengths: impl Into<MaskData<'a, u64>>) -> Self {
        self.lengths.push(lengths.into());
        self
    }

    /// Adds a sliding window, as [`crate::Mask::and_window`] does.
    pub fn and_window(self, keys: usize) -> Self {
        Self { window: Some(self.window.map_or(keys, |window| window.min(keys))), ..self }
    }

    /// Sets the position of the first query, as [`crate::Mask::offset`] does.
    pub fn offset(self, position: isize) -> Self {
        Self { offset: Some(position), ..self }
    }

    /// Returns the addresses of the parts, and guards. `stream` may use the addresses until the guards are dropped.
    pub(super) fn parts<'s>(
        &'s self,
        op: &'static str,
        stream: &'s Arc<CudaStream>,
    ) -> Result<(Parts, Vec<SyncOnDrop<'s>>)> {
        let mut parts = Parts { causal: self.causal, window: self.window, offset: self.offset, ..Parts::default() };
        let mut guards = Vec::new();
        let fits = |len: usize, shape: &[usize]| {
            if shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d)) == Some(len) {
                return Ok(());
            }
            Err(Error::shape(op, "mask", format!("{len} elements"), format!("shape {shape:?}")))
        };
        for (flags, shape) in &self.keep {
            fits(flags.len(), shape)?;
            let (address, guard) = flags.address(op, stream)?;
            parts.keep.push((address, shape.clone()));
            guards.push(guard);
        }
        for (bias, shape) in &self.bias {
            let (address, guard, dtype, len) = bias.address(op, stream)?;
            fits(len, shape)?;
            parts.bias.push((address, dtype, shape.clone()));
            guards.push(guard);
        }
        for lengths in &self.lengths {
            let (address, guard) = lengths.address(op, stream)?;
            parts.lengths.push((address, lengths.len()));
            guards.push(guard);
        }
        Ok((parts, guards))
    }
}

/// Arguments of the kernels for a [`Mask`]: the addresses of its parts on the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Addresses of flag bytes, with their shapes.
    pub keep: Vec<(u64, Vec<usize>)>,
    /// Addresses of biases, with their types and shapes.
    pub bias: Vec<(u64, DType, Vec<usize>)>,
    /// Addresses of 64-bit lengths, with their counts.
    pub lengths: Vec<(u64, usize)>,
    /// Whether the mask is causal; see [`Mask::and_causal`].
    pub causal: bool,
    /// Number of keys in the window; see [`Mask::and_window`].
    pub window: Option<usize>,
    /// Position of the first query; see [`Mask::offset`].
    pub offset: Option<isize>,
}
