//! Prefetching the next lane while the current one is computed.

use super::slice::LANES;

/// The memory behind a lane, where the next lane is if there are no gaps: asked for while this one is computed, it is
/// there in time. Hardware does so within a pass, but not for a pass that is yet to come.
#[derive(Clone, Copy)]
pub struct Ahead<T>(*const T);

impl<T> Ahead<T> {
    /// Bytes of a lane beyond which the next one would push this one out of the cache.
    const LONGEST: usize = 1 << 18;

    /// The lane that is so many further.
    pub fn of(lane: &[T], lanes: usize) -> Self {
        Self::new(lane.as_ptr(), lane.len(), lanes)
    }

    /// Behind lanes that are not too long for it; else the lane itself, which costs nothing to ask for.
    pub(super) fn new(lane: *const T, len: usize, lanes: usize) -> Self {
        let is_long = len > Self::LONGEST / size_of::<T>().max(1);
        Ahead(if is_long { lane } else { lane.wrapping_add(lanes * len) })
    }

    /// The same from that element on.
    pub fn from(self, start: usize) -> Self {
        Ahead(self.0.wrapping_add(start))
    }

    /// Asks for the next lane's block of this index; there need not be one.
    #[inline(always)]
    pub fn block(self, index: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        self.ask::<{ std::arch::x86_64::_MM_HINT_T0 }>(index);
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = (self.0, index);
    }

    /// The same of what is read so much later that the first cache could not keep it.
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
        let block = self.0.wrapping_add(LANES * index).cast::<i8>();
        for line in 0..(LANES * size_of::<T>()).div_ceil(64) {
            // SAFETY: a hint, which can't fault wherever it points.
            unsafe { std::arch::x86_64::_mm_prefetch::<HINT>(block.wrapping_add(64 * line)) };
        }
    }
}

/// Both ends of a lane that is yet to come; nothing is asked for where all is near anyway.
#[derive(Clone, Copy)]
pub struct Next<S, D> {
    pub(super) source: Ahead<S>,
    pub(super) to: Ahead<D>,
    pub(super) far: bool,
}

impl<S, D> Next<S, D> {
    /// The source that is so many elements behind this part of one, if it is not too far.
    pub fn behind(part: &[S], elements: usize) -> Self {
        let none = Ahead(std::ptr::null());
        Next { source: Ahead::new(part.as_ptr(), elements, 1), to: none, far: true }
    }

    /// The same from that element on.
    #[inline(always)]
    pub fn from(self, start: usize) -> Self {
        Next { source: self.source.from(start), to: self.to.from(start), far: self.far }
    }

    /// Asks for the source's block of this index.
    #[inline(always)]
    pub fn source(self, index: usize) {
        if self.far {
            self.source.block(index);
        }
    }

    /// Asks for the destination's block of this index.
    #[inline(always)]
    pub fn to(self, index: usize) {
        if self.far {
            self.to.block(index);
        }
    }

    /// Asks for the block of this index of both.
    #[inline(always)]
    pub fn block(self, index: usize) {
        if self.far {
            self.source.block(index);
            self.to.block(index);
        }
    }
}
