//! Buffers that each thread reuses between calls, so that kernels allocate nothing once the buffers are large enough.

use crate::simd::{Allocated, allocated};
use std::cell::Cell;
use std::thread::LocalKey;

/// Maximum size in bytes of the buffers of one kind that a thread keeps after a call. Rows of 131,072 logits need less.
/// Larger buffers are allocated for each call, which takes little time compared with the call.
const MOST_KEPT: usize = 32 << 20;

/// Buffers for the intermediate results of any kernel. Their contents are left over from earlier uses.
#[derive(Default)]
pub struct Scratch {
    /// Logits of a row.
    pub logits: Buffers,
    /// The row's scores, widened from a 16-bit type.
    pub widened: Vec<f32>,
    /// Exponentials of the row, or other intermediate results.
    pub made: Buffers,
    /// Data used together with logits or exponentials, such as flags and derivatives.
    pub beside: Buffers,
}

#[derive(Default)]
pub struct Buffers {
    pub f32s: Vec<f32>,
    pub f64s: Vec<f64>,
    pub flags: Vec<u8>,
}

allocated! {
    Scratch { logits, widened, made, beside }
    Buffers { f32s, f64s, flags }
}

/// A thread's buffers of one type. The buffers are boxed, so that lending them only moves a pointer.
pub type Lendable<T> = Cell<Option<Box<T>>>;

thread_local! {
    pub static SCRATCH: Lendable<Scratch> = const { Cell::new(None) };
    /// Whether a buffer has grown in the current call of [`with`]. If none has grown, the buffers are not measured,
    /// because measuring takes noticeable time compared with short rows.
    static GREW: Cell<bool> = const { Cell::new(false) };
}

/// Lends this thread's [`Scratch`] to `f`. Afterwards, the buffers are kept unless they are larger than [`MOST_KEPT`].
///
/// A callback in `f` may run another op. This inner op gets new buffers. When the outer call ends, its buffers replace
/// the buffers of the inner op.
#[inline(always)]
pub fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let outer_grew = GREW.take();
    let mut lent = take(&SCRATCH);
    let result = f(&mut lent);
    put_back_scratch(lent, outer_grew);
    result
}

#[inline(never)]
fn put_back_scratch(lent: Box<Scratch>, outer_grew: bool) {
    if GREW.replace(outer_grew) {
        put_back(&SCRATCH, lent);
    } else {
        SCRATCH.set(Some(lent));
    }
}

/// Lends this thread's buffers to `f`, which must not call this function with the same buffers. Afterwards, the buffers
/// are kept unless they are larger than [`MOST_KEPT`].
#[inline(always)]
pub fn lend<T: Default + Allocated, R>(buffers: &'static LocalKey<Lendable<T>>, f: impl FnOnce(&mut T) -> R) -> R {
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
fn put_back<T: Allocated>(buffers: &'static LocalKey<Lendable<T>>, lent: Box<T>) {
    if lent.bytes() <= MOST_KEPT {
        buffers.set(Some(lent));
    }
}

/// Returns the first `len` elements of the buffer, which grows if it is shorter.
#[inline(always)]
pub fn scratch_slice<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    &mut grown(buffer, len)[..len]
}

/// Returns the buffer, which grows if it is shorter than `len`.
#[inline(always)]
pub fn grown<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut Vec<T> {
    if buffer.len() < len {
        grow(buffer, len);
    }
    buffer
}

#[cold]
#[inline(never)]
fn grow<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    GREW.set(true);
    buffer.resize(len, T::default());
}
