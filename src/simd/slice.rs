//! Loops over slices in blocks of sixteen, including the partial block at the end.

use super::block::Isa;
use super::blocks::{Beside, pad};
use super::prefetch::{PrefetchRow, PrefetchSpan};
use super::storage::Storage;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Add;

mod maps;

/// Number of lanes in a block.
pub const BLOCK: usize = 16;

/// Number of elements of an output that were written; see [`Finish::done`](super::memory::Finish::done).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Written(pub(super) usize);

impl Add for Written {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Written(self.0 + other.0)
    }
}

impl<T> From<&mut [T]> for Written {
    /// Counts all elements as written. The slice must be one that a [`Span`] returned after writing it.
    fn from(slice: &mut [T]) -> Self {
        Written(slice.len())
    }
}

/// Source and destination of equal length, which are the same memory or do not overlap. A kernel written over a span
/// works in place and out of place.
pub struct Span<'a, S, D> {
    source: *const S,
    to: *mut MaybeUninit<D>,
    len: usize,
    /// Whether the span belongs to data too large for the nearer caches.
    far: bool,
    lifetime: PhantomData<(&'a [S], &'a mut [D])>,
}

impl<'a, T: Storage> Span<'a, T, T> {
    pub fn in_place(data: &'a mut [T]) -> Self {
        let to = data.as_mut_ptr();
        Span { source: to.cast_const(), to: to.cast(), len: data.len(), far: false, lifetime: PhantomData }
    }
}

impl<'a, S: Storage, D: Storage> Span<'a, S, D> {
    pub fn new(source: &'a [S], to: &'a mut [MaybeUninit<D>]) -> Self {
        assert_eq!(source.len(), to.len(), "source and destination of a span must have the same length");
        Span { source: source.as_ptr(), to: to.as_mut_ptr(), len: to.len(), far: false, lifetime: PhantomData }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the source. If the span is in place, writing results overwrites the source.
    #[inline(always)]
    pub fn source(&self) -> &[S] {
        // SAFETY: the span was built from a borrow of `len` values that lives for 'a. Writing consumes the span, so
        // nothing is written while the returned borrow lives.
        unsafe { std::slice::from_raw_parts(self.source, self.len) }
    }

    /// Returns the source if it is not the destination's memory, so that writing leaves it unchanged.
    #[inline(always)]
    pub fn separate_source(&self) -> Option<&'a [S]> {
        let apart = !std::ptr::addr_eq(self.source, self.to);
        // SAFETY: source and destination are the same memory or do not overlap. If they differ, the source is borrowed
        // for 'a.
        apart.then(|| unsafe { std::slice::from_raw_parts(self.source, self.len) })
    }

    /// Marks the span as part of data of `elements` elements in total.
    pub fn of_many(self, elements: usize) -> Self {
        /// Maximum size of a source, in bytes, that second-level caches hold together with results of the same size.
        const NEAR: usize = 1 << 18;
        Span { far: elements > NEAR / size_of::<S>().max(1), ..self }
    }

    /// Returns whether the span belongs to data too large for the nearer caches, so that later data should be
    /// prefetched.
    #[inline(always)]
    pub fn is_far(&self) -> bool {
        self.far
    }

    /// Returns the span with the `far` flag of another span of the same data.
    #[inline(always)]
    pub fn with_far(self, far: bool) -> Self {
        Span { far, ..self }
    }

    /// Returns the source and destination of the lane that is `lanes` lanes later, for prefetching. Assumes contiguous
    /// lanes.
    #[inline(always)]
    pub fn next(&self, lanes: usize) -> PrefetchSpan<S, D> {
        let lanes = if self.far { lanes } else { 0 };
        PrefetchSpan {
            source: PrefetchRow::new(self.source, self.len, lanes),
            to: PrefetchRow::new(self.to.cast_const().cast(), self.len, lanes),
            far: self.far,
        }
    }

    /// Returns the destination of the lane that is `lanes` lanes later, for prefetching. Assumes contiguous lanes.
    pub fn ahead(&self, lanes: usize) -> PrefetchRow<D> {
        PrefetchRow::new(self.to.cast_const().cast(), self.len, lanes)
    }

    /// Splits the span into the first `at` elements and the rest.
    #[inline(always)]
    pub fn split_at(self, at: usize) -> (Self, Self) {
        assert!(at <= self.len, "cannot split at {at}: the span has {} elements", self.len);
        // SAFETY: `at` is within both allocations.
        let (source, to) = unsafe { (self.source.add(at), self.to.add(at)) };
        (Span { len: at, ..self }, Span { source, to, len: self.len - at, ..self })
    }

    /// Writes `value` to every element.
    #[inline(always)]
    pub fn fill(self, value: D) -> &'a mut [D] {
        for i in 0..self.len {
            // SAFETY: the index is inside the destination.
            unsafe { (*self.to.add(i)).write(value) };
        }
        self.written()
    }

    /// Writes `values`, which must have the span's length.
    #[inline(always)]
    pub fn copy_from(self, values: &[D]) -> &'a mut [D] {
        assert_eq!(values.len(), self.len);
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the index is inside the destination.
            unsafe { (*self.to.add(i)).write(*value) };
        }
        self.written()
    }

    /// Splits the span into shorter spans of `run` elements, a multiple of sixteen. Calls `write` for each in order,
    /// with the index of its first block. `write` returns the memory that it wrote.
    #[inline(always)]
    pub fn in_runs(self, run: usize, mut write: impl FnMut(usize, Self) -> &'a mut [D]) -> &'a mut [D] {
        let all = Span { ..self };
        let (mut rest, mut first) = (self, 0);
        while rest.len > 0 {
            let part;
            let count = run.min(rest.len);
            (part, rest) = rest.split_at(count);
            let to = part.to;
            let written = write(first, part);
            assert!(std::ptr::addr_eq(written.as_ptr(), to) && written.len() == count, "`write` must fill the span");
            first += run / BLOCK;
        }
        all.written()
    }

    /// Returns the span with `values`, of the same length, as its source. The original source is not read.
    #[inline(always)]
    pub fn reading<'b, T: Storage>(self, values: &'b [T]) -> Span<'b, T, D>
    where
        'a: 'b,
    {
        self.over(values)
    }

    /// Returns the span with its source typed as f32. Panics if the source has another type.
    #[inline(always)]
    pub fn reading_f32s(self) -> Span<'a, f32, D> {
        assert!(S::IS_F32, "the source must be f32");
        Span { source: self.source.cast(), to: self.to, len: self.len, far: self.far, lifetime: PhantomData }
    }

    /// Works as [`Span::reading`], but the returned span may outlive `values`. Consume it before `values` change.
    #[inline(always)]
    fn over<T: Storage>(self, values: &[T]) -> Span<'a, T, D> {
        assert_eq!(values.len(), self.len);
        Span { source: values.as_ptr(), to: self.to, len: self.len, far: self.far, lifetime: PhantomData }
    }

    /// Loads, computes and stores block by block.
    #[inline(always)]
    fn blocks<I: Isa, V>(
        self,
        mut compute: impl FnMut(usize, &[S; BLOCK]) -> V,
        store: impl Fn(V, &mut [MaybeUninit<D>; BLOCK]),
    ) -> &'a mut [D] {
        self.blocks_with::<I, f32, f32, 0, 0, V>(
            [],
            [],
            #[inline(always)]
            |i, from, [], []| compute(i, from),
            store,
        )
    }

    /// Loads, computes and stores block by block, together with the blocks of other slices of the span's length. Two
    /// blocks per iteration keep the loop overhead low for short kernels.
    #[inline(always)]
    fn blocks_with<I: Isa, T: Storage, U: Storage, const N: usize, const M: usize, V>(
        self,
        beside: [&[T]; N],
        also: [&[U]; M],
        mut compute: impl FnMut(usize, &[S; BLOCK], [&[T; BLOCK]; N], [&[U; BLOCK]; M]) -> V,
        store: impl Fn(V, &mut [MaybeUninit<D>; BLOCK]),
    ) -> &'a mut [D] {
        let (mut last, mut also_last) = ([[T::FILLER; BLOCK]; N], [[U::FILLER; BLOCK]; M]);
        let beside = Beside::new(beside, &mut last, self.len);
        let also = Beside::new(also, &mut also_last, self.len);
        let all = Span { ..self };
        let pairs = if I::UNROLLS { self.len / (2 * BLOCK) } else { 0 };
        for pair in 0..pairs {
            // SAFETY: the 32 elements from 32 * pair on are inside source and destination.
            let (from, to) = unsafe { (self.source.add(2 * BLOCK * pair), self.to.add(2 * BLOCK * pair)) };
            // SAFETY: 32 values are readable.
            let from: &[[S; BLOCK]; 2] = unsafe { &*from.cast() };
            let a = compute(2 * pair, &from[0], beside.whole(2 * pair), also.whole(2 * pair));
            let b = compute(2 * pair + 1, &from[1], beside.whole(2 * pair + 1), also.whole(2 * pair + 1));
            // SAFETY: 32 values fit, and the reference to the source is no longer used.
            let to: &mut [[MaybeUninit<D>; BLOCK]; 2] = unsafe { &mut *to.cast() };
            store(a, &mut to[0]);
            store(b, &mut to[1]);
        }
        let rest = self.split_at(2 * BLOCK * pairs).1;
        // Hides the length from the compiler, which would unroll a loop that it knows to have at most two iterations.
        let rest = Span { len: opaque(rest.len), ..rest };
        rest.blocks_once(
            #[inline(always)]
            |i, from| compute(2 * pairs + i, from, beside.block(2 * pairs + i), also.block(2 * pairs + i)),
            store,
        );
        all.written()
    }

    /// Works as [`Span::blocks_with`], with one block per iteration. The body is compiled once, for long kernels.
    #[inline(always)]
    fn blocks_once_with<T: Storage, const N: usize, V>(
        self,
        beside: [&[T]; N],
        mut compute: impl FnMut(usize, &[S; BLOCK], [&[T; BLOCK]; N]) -> V,
        store: impl Fn(V, &mut [MaybeUninit<D>; BLOCK]),
    ) -> &'a mut [D] {
        let mut last = [[T::FILLER; BLOCK]; N];
        let beside = Beside::new(beside, &mut last, self.len);
        self.blocks_once(
            #[inline(always)]
            |i, from| compute(i, from, beside.block(i)),
            store,
        )
    }

    /// Works as [`Span::blocks`], with one block per iteration. The last, partial block goes through buffers that are
    /// filled up with one of the block's values. The body is compiled once, for long kernels.
    #[inline(always)]
    fn blocks_once<V>(
        self,
        mut compute: impl FnMut(usize, &[S; BLOCK]) -> V,
        store: impl Fn(V, &mut [MaybeUninit<D>; BLOCK]),
    ) -> &'a mut [D] {
        let whole = self.len / BLOCK;
        let rest = self.len % BLOCK;
        let mut from_buffer = MaybeUninit::<[S; BLOCK]>::uninit();
        let mut to_buffer = [MaybeUninit::<D>::uninit(); BLOCK];
        if rest > 0 {
            // SAFETY: the `rest` elements from 16 * whole on are inside the source.
            unsafe { read_tail(self.source.add(BLOCK * whole), rest, &mut from_buffer) };
        }
        for i in 0..whole + usize::from(rest > 0) {
            let (from, to) = if i < whole {
                // SAFETY: the sixteen elements from 16 * i on are inside source and destination.
                unsafe { (self.source.add(BLOCK * i), self.to.add(BLOCK * i)) }
            } else {
                (from_buffer.as_ptr().cast(), to_buffer.as_mut_ptr())
            };
            // SAFETY: sixteen values are readable, in the source or in the buffer just filled.
            let value = compute(i, unsafe { &*from.cast() });
            // SAFETY: sixteen values fit, and the reference to the source is no longer used.
            store(value, unsafe { &mut *to.cast() });
        }
        if rest > 0 {
            // SAFETY: the `rest` elements from 16 * whole on are inside the destination.
            unsafe { write_tail(&to_buffer, self.to.add(BLOCK * whole), rest) };
        }
        self.written()
    }

    /// Returns the destination. The calling method must have written all of it.
    #[inline(always)]
    fn written(self) -> &'a mut [D] {
        // SAFETY: the destination is borrowed for 'a by this span alone, and every element has been written.
        unsafe { std::slice::from_raw_parts_mut(self.to.cast(), self.len) }
    }
}

/// Copies the last `rest` elements of a slice to the buffer. Copies of the first of these elements fill the rest of the
/// buffer.
///
/// This function and [`write_tail`] are cold, so that the code for rows without a partial block keeps values in
/// registers.
///
/// # Safety
/// `from` must point to `rest` values, at least one and at most sixteen.
#[cold]
#[inline(never)]
unsafe fn read_tail<S: Copy>(from: *const S, rest: usize, buffer: &mut MaybeUninit<[S; BLOCK]>) {
    // SAFETY: the caller guarantees valid memory.
    let values = unsafe { std::slice::from_raw_parts(from, rest) };
    pad(values, values[0], buffer);
}

/// Copies the first `rest` values of the buffer.
///
/// # Safety
/// `to` must point to memory for `rest` values, outside the buffer.
#[cold]
#[inline(never)]
unsafe fn write_tail<D>(buffer: &[MaybeUninit<D>; BLOCK], to: *mut MaybeUninit<D>, rest: usize) {
    // SAFETY: the caller guarantees valid memory.
    unsafe { to.copy_from_nonoverlapping(buffer[..rest].as_ptr(), rest) };
}

/// Returns the value unchanged, but hides it from the compiler.
#[inline(always)]
fn opaque(value: usize) -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut value = value;
        // SAFETY: the assembly contains no instruction.
        unsafe { std::arch::asm!("/* {} */", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
        value
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    value
}
