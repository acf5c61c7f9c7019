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
    /// Whether a buffer has grown since the current op borrowed [`Scratch`]. An inner op saves and restores this value.
    /// If no buffer has grown, the buffers are not measured, because measuring takes noticeable time compared with
    /// short rows.
    static GREW: Cell<bool> = const { Cell::new(false) };
}

/// Buffers that a thread lends to a kernel. When this value is dropped, the thread keeps the buffers, unless they are
/// larger than [`MOST_KEPT`].
///
/// The kernel may call a function of the user, which may run another op. This inner op gets new buffers. When the outer
/// op ends, its buffers replace the buffers of the inner op.
pub struct Lent<T: Default + Allocated + 'static> {
    buffers: Option<Box<T>>,
    owner: &'static LocalKey<Lendable<T>>,
    /// For [`SCRATCH`]: the value of [`GREW`] for the outer op.
    outer_grew: Option<bool>,
}

/// Lends this thread's [`Scratch`].
#[inline(always)]
pub fn lend_scratch() -> Lent<Scratch> {
    Lent { buffers: Some(take(&SCRATCH)), owner: &SCRATCH, outer_grew: Some(GREW.take()) }
}

/// Lends this thread's buffers of one type.
#[inline(always)]
pub fn lend<T: Default + Allocated>(owner: &'static LocalKey<Lendable<T>>) -> Lent<T> {
    Lent { buffers: Some(take(owner)), owner, outer_grew: None }
}

impl<T: Default + Allocated> Lent<T> {
    /// Returns the buffers.
    #[inline(always)]
    pub fn get(&mut self) -> &mut T {
        self.buffers.get_or_insert_default()
    }
}

impl<T: Default + Allocated> Drop for Lent<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(buffers) = self.buffers.take() {
            put_back(self.owner, buffers, self.outer_grew);
        }
    }
}

#[inline(never)]
fn take<T: Default>(owner: &'static LocalKey<Lendable<T>>) -> Box<T> {
    owner.take().unwrap_or_default()
}

#[inline(never)]
fn put_back<T: Allocated>(owner: &'static LocalKey<Lendable<T>>, buffers: Box<T>, outer_grew: Option<bool>) {
    let may_have_grown = outer_grew.is_none_or(|outer_grew| GREW.replace(outer_grew));
    if !may_have_grown || buffers.bytes() <= MOST_KEPT {
        owner.set(Some(buffers));
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

#[cfg(test)]
mod tests {
    use super::{MOST_KEPT, SCRATCH, lend_scratch, scratch_slice};
    use crate::simd::Allocated;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Returns the size of the buffers that this thread keeps, in bytes.
    fn kept() -> usize {
        let buffers = SCRATCH.take();
        let bytes = buffers.as_ref().map_or(0, |buffers| buffers.bytes());
        SCRATCH.set(buffers);
        bytes
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri takes minutes to fill buffers of this size")]
    fn large_buffers_of_an_inner_op_are_freed() {
        let mut outer = lend_scratch();
        scratch_slice(&mut outer.get().widened, 1000);
        {
            let mut inner = lend_scratch();
            scratch_slice(&mut inner.get().made.f64s, MOST_KEPT / size_of::<f64>() + 1);
        }
        assert_eq!(kept(), 0, "the buffers of the inner op exceed {MOST_KEPT} bytes, so none may be kept");
        drop(outer);
        assert!((4000..MOST_KEPT).contains(&kept()), "the buffers of the outer op must be kept, got {} bytes", kept());
        scratch_slice(&mut lend_scratch().get().widened, MOST_KEPT / size_of::<f32>() + 1);
        assert_eq!(kept(), 0, "buffers that grew above {MOST_KEPT} bytes must be freed");
    }

    #[test]
    fn buffers_lent_during_a_panic_are_kept() {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut lent = lend_scratch();
            scratch_slice(&mut lent.get().widened, 1000);
            panic!("a panic of the user's callback");
        }));
        assert!(panicked.is_err());
        assert!(kept() >= 4000, "the buffers must be kept, got {} bytes", kept());
    }
}
