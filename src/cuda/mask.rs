//! Attention masks in a device's memory.

use crate::element::DType;
use crate::error::{Error, Result};
use cudarc::driver::{CudaStream, CudaView, DevicePtr, SyncOnDrop};
use half::{bf16, f16};
use std::sync::Arc;

/// A mask whose flags, biases and lengths are in a device's memory. It follows the rules of [`crate::Mask`]: a position
/// is unmasked only if every part allows it, and parts broadcast by NumPy's rules. It has at most two parts of each
/// kind.
///
/// ```
/// use evenkeel::cuda::Mask;
/// let mask = Mask::causal().and_window(4096);
/// # let _ = mask;
/// ```
#[derive(Debug, Default)]
pub struct Mask<'a> {
    pub(super) keep: Vec<(CudaView<'a, u8>, Vec<usize>)>,
    pub(super) bias: Vec<(Bias<'a>, Vec<usize>)>,
    pub(super) lengths: Vec<CudaView<'a, u64>>,
    pub(super) causal: bool,
    pub(super) window: Option<usize>,
    pub(super) offset: Option<isize>,
}

/// An additive bias, converted from a view with `into()`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Bias<'a> {
    /// binary64
    F64(CudaView<'a, f64>),
    /// binary32
    F32(CudaView<'a, f32>),
    /// binary16
    F16(CudaView<'a, f16>),
    /// bfloat16
    BF16(CudaView<'a, bf16>),
}

macro_rules! biases {
    ($($variant:ident: $type:ty),*) => {
        $(impl<'a> From<CudaView<'a, $type>> for Bias<'a> {
            fn from(values: CudaView<'a, $type>) -> Self {
                Bias::$variant(values)
            }
        })*
    };
}
biases!(F64: f64, F32: f32, F16: f16, BF16: bf16);

impl Bias<'_> {
    fn at<'s>(&'s self, stream: &'s CudaStream) -> (u64, SyncOnDrop<'s>, DType, usize) {
        fn of<'s, T>(
            view: &'s CudaView<'_, T>,
            stream: &'s CudaStream,
            dtype: DType,
        ) -> (u64, SyncOnDrop<'s>, DType, usize) {
            let (address, guard) = view.device_ptr(stream);
            (address, guard, dtype, view.len())
        }
        match self {
            Bias::F64(view) => of(view, stream, DType::F64),
            Bias::F32(view) => of(view, stream, DType::F32),
            Bias::F16(view) => of(view, stream, DType::F16),
            Bias::BF16(view) => of(view, stream, DType::BF16),
        }
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
    pub fn keep(flags: CudaView<'a, u8>, shape: &[usize]) -> Self {
        Mask::none().and_keep(flags, shape)
    }

    /// Returns a mask from a bias of the given shape, added to the scores; a bias of -inf masks.
    pub fn bias(values: impl Into<Bias<'a>>, shape: &[usize]) -> Self {
        Mask::none().and_bias(values, shape)
    }

    /// Returns a mask that leaves only the first keys of each row unmasked. `lengths` has their number for all rows, or
    /// one number for each entry of the first axis. A larger number than there are keys leaves all unmasked.
    pub fn lengths(lengths: CudaView<'a, u64>) -> Self {
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
    pub fn and_keep(mut self, flags: CudaView<'a, u8>, shape: &[usize]) -> Self {
        self.keep.push((flags, shape.to_vec()));
        self
    }

    /// Adds a bias as described at [`Mask::bias`]. Two biases are added one after the other, in f64.
    pub fn and_bias(mut self, values: impl Into<Bias<'a>>, shape: &[usize]) -> Self {
        self.bias.push((values.into(), shape.to_vec()));
        self
    }

    /// Adds lengths as described at [`Mask::lengths`].
    pub fn and_lengths(mut self, lengths: CudaView<'a, u64>) -> Self {
        self.lengths.push(lengths);
        self
    }

    /// Adds a sliding window, as [`crate::Mask::and_window`] does.
    pub fn and_window(self, keys: usize) -> Self {
        Self { window: Some(keys), ..self }
    }

    /// Sets the position of the first query, as [`crate::Mask::offset`] does.
    pub fn offset(self, position: isize) -> Self {
        Self { offset: Some(position), ..self }
    }

    /// Returns the addresses of the parts, which `stream` may use until the guards are dropped.
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
            let (address, guard) = flags.device_ptr(stream);
            parts.keep.push((address, shape.clone()));
            guards.push(guard);
        }
        for (bias, shape) in &self.bias {
            let (address, guard, dtype, len) = bias.at(stream);
            fits(len, shape)?;
            parts.bias.push((address, dtype, shape.clone()));
            guards.push(guard);
        }
        for lengths in &self.lengths {
            let (address, guard) = lengths.device_ptr(stream);
            parts.lengths.push((address, lengths.len()));
            guards.push(guard);
        }
        Ok((parts, guards))
    }
}

/// Parts of a [`Mask`], given by their addresses on the device.
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
