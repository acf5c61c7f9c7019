//! Buffers that a thread keeps from call to call, so that kernels allocate nothing once they have grown.

#[cfg(feature = "inference")]
use super::attention;
#[cfg(feature = "train")]
use super::attention_backward;
#[cfg(feature = "sample")]
use super::sample::Sampling;
use std::cell::RefCell;

/// The buffers; which kernel uses which is its own affair. They hold whatever was left in them.
#[derive(Default)]
pub struct Scratch {
    /// A row's logits.
    pub logits: Buffers,
    /// Its exponentials, or whatever else is made of it.
    pub made: Buffers,
    /// What goes with either: flags, slopes.
    pub beside: Buffers,
}

#[derive(Default)]
pub struct Buffers {
    pub f32s: Vec<f32>,
    pub f64s: Vec<f64>,
    pub flags: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
    #[cfg(feature = "inference")]
    static ATTENTION: RefCell<attention::Buffers> = RefCell::new(attention::Buffers::default());
    #[cfg(feature = "train")]
    static ATTENTION_BACKWARD: RefCell<attention_backward::Buffers> = RefCell::default();
    #[cfg(feature = "sample")]
    static SAMPLING: RefCell<Sampling> = RefCell::new(Sampling::default());
}

/// Lends this thread's buffers. Not to be called within `f`.
#[inline(always)]
pub fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take();
    let result = f(&mut scratch);
    SCRATCH.replace(scratch);
    result
}

/// Lends this thread's buffers for attention. Not to be called within `f`.
#[cfg(feature = "inference")]
#[inline(always)]
pub fn with_attention<R>(f: impl FnOnce(&mut attention::Buffers) -> R) -> R {
    let mut buffers = ATTENTION.take();
    let result = f(&mut buffers);
    ATTENTION.replace(buffers);
    result
}

/// Lends this thread's buffers for attention's gradient. Not to be called within `f`.
#[cfg(feature = "train")]
#[inline(always)]
pub fn with_attention_backward<R>(f: impl FnOnce(&mut attention_backward::Buffers) -> R) -> R {
    let mut buffers = ATTENTION_BACKWARD.take();
    let result = f(&mut buffers);
    ATTENTION_BACKWARD.replace(buffers);
    result
}

/// Lends this thread's buffers for sampling. Not to be called within `f`.
#[cfg(feature = "sample")]
#[inline(always)]
pub fn with_sampling<R>(f: impl FnOnce(&mut Sampling) -> R) -> R {
    let mut sampling = SAMPLING.take();
    let result = f(&mut sampling);
    SAMPLING.replace(sampling);
    result
}

/// The first `len` elements, grown if need be.
#[inline(always)]
pub fn room<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}
