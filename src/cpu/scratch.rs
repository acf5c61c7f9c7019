//! Buffers that each thread reuses between calls, so that kernels allocate nothing once the buffers are large enough.

use std::cell::Cell;
use std::thread::LocalKey;

/// Buffers for the intermediate results of any kernel. Their contents are left over from earlier uses.
#[derive(Default)]
pub struct Scratch {
    /// Logits of a row.
    pub logits: Buffers,
    /// The row's scores, widened from a 16-bit type.
    pub widened: Vec<f32>,
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

/// Buffers of one type and thread. They are boxed, so that lending them only moves a pointer.
pub type Lendable<T> = Cell<Option<Box<T>>>;

thread_local! {
    static SCRATCH: Lendable<Scratch> = const { Cell::new(None) };
}

/// Lends this thread's [`Scratch`] to `f`, which must not call this function.
#[inline(always)]
pub fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    lend(&SCRATCH, f)
}

/// Lends this thread's buffers to `f`, which must not call this function with the same buffers.
#[inline(always)]
pub fn lend<T: Default, R>(buffers: &'static LocalKey<Lendable<T>>, f: impl FnOnce(&mut T) -> R) -> R {
    let mut lent = take(buffers);
    let result = f(&mut lent);
    put_back(buffers, lent);
    result
}

#[inline(never)]
fn take<T: Default>(buffers: &'static LocalKey<Lendable<T>>) -> Box<T> {
    buffers.take().unwrap_or_default()
}

#[inline(never)]
fn put_back<T>(buffers: &'static LocalKey<Lendable<T>>, lent: Box<T>) {
    buffers.set(Some(lent));
}

/// Returns the first `len` elements of the buffer, which grows if it is shorter.
#[inline(always)]
pub fn scratch_slice<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        grow(buffer, len);
    }
    &mut buffer[..len]
}

#[cold]
#[inline(never)]
fn grow<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    buffer.resize(len, T::default());
}
