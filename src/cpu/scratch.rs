//! Buffers that each thread reuses between calls, so that kernels allocate nothing once they have grown.

#[cfg(feature = "inference")]
use super::attention;
#[cfg(feature = "train")]
use super::attention_backward;
#[cfg(feature = "sample")]
use super::sample::Sampling;
use std::cell::RefCell;

/// Buffers that each kernel uses as it needs. Their contents are left over from earlier uses.
#[derive(Default)]
pub struct Scratch {
    /// Logits of a row.
    pub logits: Buffers,
    /// Exponentials of the row, or other intermediate results.
    pub made: Buffers,
    /// Data that accompanies either: flags, derivatives.
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

/// Lends this thread's buffers to `f`, which must not call this function.
#[inline(always)]
pub fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take();
    let result = f(&mut scratch);
    SCRATCH.replace(scratch);
    result
}

/// Lends this thread's buffers for attention to `f`, which must not call this function.
#[cfg(feature = "inference")]
#[inline(always)]
pub fn with_attention<R>(f: impl FnOnce(&mut attention::Buffers) -> R) -> R {
    let mut buffers = ATTENTION.take();
    let result = f(&mut buffers);
    ATTENTION.replace(buffers);
    result
}

/// Lends this thread's buffers for attention's gradient to `f`, which must not call this function.
#[cfg(feature = "train")]
#[inline(always)]
pub fn with_attention_backward<R>(f: impl FnOnce(&mut attention_backward::Buffers) -> R) -> R {
    let mut buffers = ATTENTION_BACKWARD.take();
    let result = f(&mut buffers);
    ATTENTION_BACKWARD.replace(buffers);
    result
}

/// Lends this thread's buffers for sampling to `f`, which must not call this function.
#[cfg(feature = "sample")]
#[inline(always)]
pub fn with_sampling<R>(f: impl FnOnce(&mut Sampling) -> R) -> R {
    let mut sampling = SAMPLING.take();
    let result = f(&mut sampling);
    SAMPLING.replace(sampling);
    result
}

/// Returns the first `len` elements of the buffer, which grows if it is shorter.
#[inline(always)]
pub fn scratch_slice<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}
