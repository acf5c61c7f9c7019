//! Loops over slices in blocks of sixteen, including the partial block at the end.

use super::block::Storage;
use super::output::Output;
use super::prefetch::{PrefetchRow, PrefetchSpan};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

mod maps;

/// Source and destination of equal length, which are the same memory or do not overlap. A kernel written over a span
/// works in place and out of place.
pub struct Span<'s, 'd, S, D> {
    source: *const S,
    to: *mut MaybeUninit<D>,
    len: usize,
    /// Whether the span belongs to data too large for the nearer caches.
    far: bool,
    lifetime: PhantomData<(&'s [S], &'d mut [D])>,
}

impl<'a, T: Storage> Span<'a, 'a, T, T> {
    #[inline(always)]
    pub fn in_place(data: &'a mut [T]) -> Self {
        let to = data.as_mut_ptr();
        Span { source: to.cast_const(), to: to.cast(), len: data.len(), far: false, lifetime: PhantomData }
    }
}

impl<'s, 'd, S: Storage, D: Storage> Span<'s, 'd, S, D> {
    #[inline(always)]
    pub fn new(source: &'s [S], to: Output<'d, D>) -> Self {
        let to = to.into_memory();
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
        // SAFETY: the span was built from a borrow of `len` values that lives for 's. Writing consumes the span, so
        // nothing is written while the returned borrow lives.
        unsafe { std::slice::from_raw_parts(self.source, self.len) }
    }

    /// Returns the source if source and destination are different memory. Writing then leaves the source unchanged.
    #[inline(always)]
    pub fn separate_source(&self) -> Option<&'s [S]> {
        let apart = !std::ptr::addr_eq(self.source, self.to);
        // SAFETY: source and destination are the same memory or do not overlap. If they differ, the source is borrowed
        // for 's.
        apart.then(|| unsafe { std::slice::from_raw_parts(self.source, self.len) })
    }

    /// Sets the `far` flag of a span that belongs to data with `elements` elements.
    #[inline(always)]
    pub fn of_many(self, elements: usize) -> Self {
        /// Maximum size, in bytes, of a source that fits in a second-level cache together with results of equal size.
        const NEAR: usize = 1 << 18;
        Span { far: elements > NEAR / size_of::<S>().max(1), ..self }
    }

    /// Returns whether the span belongs to data too large for the nearer caches, so that later data should be
    /// prefetched.
    #[inline(always)]
    pub fn is_far(&self) -> bool {
        self.far
    }

    /// Returns the span with the given `far` flag. The caller takes the flag from another span of the same data.
    #[inline(always)]
    pub fn with_far(self, far: bool) -> Self {
        Span { far, ..self }
    }

    /// Returns the source and the destination of a later span, for prefetching. Spans are assumed to be contiguous and
    /// equally long. The later span comes `lanes` spans after this one.
    #[inline(always)]
    pub fn next(&self, lanes: usize) -> PrefetchSpan<S, D> {
        let lanes = if self.far { lanes } else { 0 };
        PrefetchSpan {
            source: PrefetchRow::new(self.source, self.len, lanes),
            to: PrefetchRow::new(self.to.cast_const().cast(), self.len, lanes),
            far: self.far,
        }
    }

    /// Returns what the first and the last of several passes over this span prefetch of the span that comes `lanes`
    /// spans after it. For short spans, the first pass prefetches the source, and the last pass the destination. For
    /// other spans, the last pass prefetches both, because the first-level cache cannot hold several of them. Spans are
    /// short up to 256 elements of f32, or 4,096 elements of a 16-bit type.
    #[inline(always)]
    pub fn next_in_passes(&self, lanes: usize) -> [PrefetchSpan<S, D>; 2] {
        let longest = match size_of::<S>() {
            2 => 4096,
            4 => 256,
            _ => 0,
        };
        let (next, is_short) = (self.next(lanes), self.len <= longest);
        let first = PrefetchSpan { far: next.far && is_short, ..next };
        // Prefetching the destination twice costs less than a branch.
        let last = if is_short { PrefetchSpan { source: next.to.cast(), ..next } } else { next };
        [first, last]
    }

    /// Returns the destination of a later span, for prefetching. Spans are assumed to be contiguous and equally long.
    /// The later span comes `lanes` spans after this one.
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
    pub fn fill(self, value: D) -> &'d mut [D] {
        if self.len > 0 {
            // SAFETY: the destination is borrowed for 'd by this span alone.
            fill(unsafe { std::slice::from_raw_parts_mut(self.to, self.len) }, value);
        }
        self.written()
    }

    /// Writes `values`, which must have the span's length.
    #[inline(always)]
    pub fn copy_from(self, values: &[D]) -> &'d mut [D] {
        assert_eq!(values.len(), self.len);
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the index is inside the destination.
            unsafe { (*self.to.add(i)).write(*value) };
        }
        self.written()
    }

    /// Applies `f` to every element, one after another.
    #[inline(always)]
    pub fn map_each(self, mut f: impl FnMut(S) -> D) -> &'d mut [D] {
        for i in 0..self.len {
            // SAFETY: the index is inside source and destination. If they are the same memory, the element is read
            // before it is written.
            unsafe { (*self.to.add(i)).write(f(*self.source.add(i))) };
        }
        self.written()
    }

    /// Splits the span into shorter spans of `run` elements. Calls `write` for each shorter span in order, with the
    /// index of its first element in the whole span. `write` returns the memory that it wrote.
    #[inline(always)]
    pub fn in_runs(self, run: usize, mut write: impl FnMut(usize, Self) -> &'d mut [D]) -> &'d mut [D] {
        let all = Span { ..self };
        let (mut rest, mut start) = (self, 0);
        while rest.len > 0 {
            let part;
            let count = run.min(rest.len);
            (part, rest) = rest.split_at(count);
            let to = part.to;
            let written = write(start, part);
            assert!(std::ptr::addr_eq(written.as_ptr(), to) && written.len() == count, "`write` must fill the span");
            start += count;
        }
        all.written()
    }

    /// Fills the elements outside of `columns` with `value`. Calls `write` for the other elements. `write` returns the
    /// memory that it wrote.
    #[inline(always)]
    pub fn fill_outside(self, columns: Range<usize>, value: D, write: impl FnOnce(Self) -> &'d mut [D]) -> &'d mut [D] {
        let all = Span { ..self };
        let (span, behind) = self.split_at(columns.end);
        let (before, span) = span.split_at(columns.start);
        let (to, len) = (span.to, span.len);
        let written = write(span);
        assert!(std::ptr::addr_eq(written.as_ptr(), to) && written.len() == len, "`write` must fill the span");
        // The elements around the span are filled last, because `write` usually prefetches memory behind the span.
        before.fill(value);
        behind.fill(value);
        all.written()
    }

    /// Returns the span with `values`, of the same length, as its source. The original source is not read.
    #[inline(always)]
    pub fn reading<'v, T: Storage>(self, values: &'v [T]) -> Span<'v, 'd, T, D> {
        assert_eq!(values.len(), self.len);
        Span { source: values.as_ptr(), to: self.to, len: self.len, far: self.far, lifetime: PhantomData }
    }

    /// Returns the span with its source typed as f32. Panics if the source has another type.
    #[inline(always)]
    pub fn reading_f32s(self) -> Span<'s, 'd, f32, D> {
        assert!(S::IS_F32, "the source of the span must have the type f32");
        Span { source: self.source.cast(), to: self.to, len: self.len, far: self.far, lifetime: PhantomData }
    }

    /// Returns the destination. The calling method must have written every element of the destination.
    #[inline(always)]
    fn written(self) -> &'d mut [D] {
        // SAFETY: the destination is borrowed for 'd by this span alone, and every element has been written.
        unsafe { std::slice::from_raw_parts_mut(self.to.cast(), self.len) }
    }
}

/// Writes `value` to every element. This is a separate function, because kernels rarely fill memory.
#[inline(never)]
fn fill<D: Storage>(to: &mut [MaybeUninit<D>], value: D) {
    // SAFETY: storage types have no padding, so all bytes of the value are initialised.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const value).cast::<u8>(), size_of::<D>()) };
    if bytes.iter().all(|&byte| byte == 0) {
        // For large memory, the C library writes zeros without first reading the memory into the caches.
        // SAFETY: the slice borrows the memory exclusively.
        unsafe { to.as_mut_ptr().write_bytes(0, to.len()) };
    } else {
        to.fill(MaybeUninit::new(value));
    }
}

/// Returns the value unchanged, but hides it from the compiler.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
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
