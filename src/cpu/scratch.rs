//! Buffers that each thread reuses between calls, so that kernels allocate nothing once the buffers are large enough.

use std::cell::RefCell;

/// Buffers that each kernel uses as it needs. Their contents are left over from earlier uses.
#[derive(Default)]
pub struct Scratch {
    /// Logits of a row.
    pub logits: Buffers,
    /// Exponentials of the row, or other intermediate results.
    pub made: Buffers,
    /// Data next to logits or exponentials, such as flags and derivatives.
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
}

/// Lends this thread's buffers to `f`, which must not call this function.
#[inline(always)]
pub fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take();
    let result = f(&mut scratch);
    SCRATCH.replace(scratch);
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
