//! Prefetching the next lane while the current one is computed. A lane here is a run of elements, such as a row.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::tail::BLOCK;

/// Address of the next lane, which is prefetched while the current lane is computed. Lanes are assumed to be
/// contiguous. The hardware prefetcher only follows the current pass over a lane; it does not load the next lane early.
#[derive(Clone, Copy)]
pub struct PrefetchRow<T>(*const T);

impl<T> PrefetchRow<T> {
    /// Maximum size of a lane in bytes. With longer lanes, prefetching the next lane would evict the current one from
    /// the cache.
    const LONGEST: usize = 1 << 18;

    /// Returns the address `lanes` lanes after `lane`.
    pub fn of(lane: &[T], lanes: usize) -> Self {
        Self::new(lane.as_ptr(), lane.len(), lanes)
    }

    /// Returns the address `lanes * len` elements after `lane`. If lanes are longer than [`Self::LONGEST`], returns the
    /// address of `lane`, because prefetching the current lane costs nothing.
    #[inline(always)]
    pub(super) fn new(lane: *const T, len: usize, lanes: usize) -> Self {
        let is_long = len > Self::LONGEST / size_of::<T>().max(1);
        PrefetchRow(if is_long { lane } else { lane.wrapping_add(lanes * len) })
    }

    /// Returns the address as an address of elements of another type.
    #[inline(always)]
    pub(super) fn cast<U>(self) -> PrefetchRow<U> {
        PrefetchRow(self.0.cast())
    }

    /// Advances the address by `start` elements.
    pub fn from(self, start: usize) -> Self {
        PrefetchRow(self.0.wrapping_add(start))
    }

    /// Prefetches block `index` of the next lane. The block need not exist.
    #[inline(always)]
    pub fn block(self, index: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        self.ask::<{ std::arch::x86_64::_MM_HINT_T0 }>(index);
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = (self.0, index);
    }

    /// Prefetches a block into the second-level cache, because the first level would evict it before it is read.
    #[inline(always)]
    pub fn block_for_later(self, index: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        self.ask::<{ std::arch::x86_64::_MM_HINT_T1 }>(index);
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = (self.0, index);
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    fn ask<const HINT: i32>(self, index: usize) {
        let block = self.0.wrapping_add(BLOCK * index).cast::<i8>();
        for line in 0..(BLOCK * size_of::<T>()).div_ceil(64) {
            // SAFETY: a prefetch is a hint and cannot fault, whatever the address.
            unsafe { std::arch::x86_64::_mm_prefetch::<HINT>(block.wrapping_add(64 * line)) };
        }
    }
}

/// Source and destination of a later lane, to be prefetched. Nothing is prefetched unless `far` is set: the nearer
/// caches then do not hold all data.
#[derive(Clone, Copy)]
pub struct PrefetchSpan<S, D> {
    pub(super) source: PrefetchRow<S>,
    pub(super) to: PrefetchRow<D>,
    pub(super) far: bool,
}

impl<S, D> PrefetchSpan<S, D> {
    /// Creates a span to prefetch, whose source begins `elements` elements after the start of `part`. The span has no
    /// destination. If `far` is not set, or if the distance exceeds 256 KiB (`PrefetchRow::LONGEST`), the source is
    /// `part` itself, because prefetching `part` costs less than a branch.
    #[inline(always)]
    pub fn behind(part: &[S], elements: usize, far: bool) -> Self {
        let none = PrefetchRow(std::ptr::null());
        PrefetchSpan { source: PrefetchRow::new(part.as_ptr(), elements, usize::from(far)), to: none, far: true }
    }

    /// Returns a span that prefetches nothing.
    #[inline(always)]
    pub fn none() -> Self {
        PrefetchSpan { source: PrefetchRow(std::ptr::null()), to: PrefetchRow(std::ptr::null()), far: false }
    }

    /// Advances both addresses by `start` elements.
    #[inline(always)]
    pub fn from(self, start: usize) -> Self {
        PrefetchSpan { source: self.source.from(start), to: self.to.from(start), far: self.far }
    }

    /// Prefetches block `index` of the source.
    #[inline(always)]
    pub fn source(self, index: usize) {
        if self.far {
            self.source.block(index);
        }
    }

    /// Prefetches block `index` of the destination.
    #[inline(always)]
    pub fn to(self, index: usize) {
        if self.far {
            self.to.block(index);
        }
    }

    /// Prefetches block `index` of the source and of the destination.
    #[inline(always)]
    pub fn block(self, index: usize) {
        if self.far {
            self.source.block(index);
            self.to.block(index);
        }
    }
}
