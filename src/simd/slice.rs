//! Loops over slices in blocks of sixteen: the one place that owns tails.

use super::block::Isa;
use super::blocks::{Beside, padded};
use super::prefetch::{Ahead, Next};
use super::storage::Storage;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Add;

/// Lanes of a block.
pub const LANES: usize = 16;

/// How many elements of an output were written; see [`Finish::done`](super::memory::Finish::done).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Written(pub(super) usize);

impl Add for Written {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Written(self.0 + other.0)
    }
}

impl<T> From<&mut [T]> for Written {
    /// A slice that a [`Span`] returned was written whole.
    fn from(slice: &mut [T]) -> Self {
        Written(slice.len())
    }
}

/// A source and a destination of equal length that are the same memory or do not overlap: a kernel written over it
/// works in place and out of place.
pub struct Span<'a, S, D> {
    source: *const S,
    to: *mut MaybeUninit<D>,
    len: usize,
    /// Whether it is part of more than the nearer caches hold.
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
        assert_eq!(source.len(), to.len(), "a span's ends differ in length");
        Span { source: source.as_ptr(), to: to.as_mut_ptr(), len: to.len(), far: false, lifetime: PhantomData }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What is to be read. In place, it is gone once something was written.
    #[inline(always)]
    pub fn source(&self) -> &[S] {
        // SAFETY: built from a borrow of `len` values that lives for 'a; writing consumes the span, so nothing is
        // written while this borrow of it lives.
        unsafe { std::slice::from_raw_parts(self.source, self.len) }
    }

    /// What is to be read, if writing leaves it as it is.
    #[inline(always)]
    pub fn separate_source(&self) -> Option<&'a [S]> {
        let apart = !std::ptr::addr_eq(self.source, self.to);
        // SAFETY: the ends are the same memory or do not overlap; where they differ, the source is borrowed for 'a.
        apart.then(|| unsafe { std::slice::from_raw_parts(self.source, self.len) })
    }

    /// The same as part of `elements` in all.
    pub fn of_many(self, elements: usize) -> Self {
        /// Bytes that second-level caches hold beside as many of results.
        const NEAR: usize = 1 << 18;
        Span { far: elements > NEAR / size_of::<S>().max(1), ..self }
    }

    /// Whether it is part of more than the nearer caches hold, so that what comes next is to be asked for.
    #[inline(always)]
    pub fn is_far(&self) -> bool {
        self.far
    }

    /// The same as part of what is as far away.
    #[inline(always)]
    pub fn with_far(self, far: bool) -> Self {
        Span { far, ..self }
    }

    /// Both ends of the lane that is so many further, if there are no gaps.
    #[inline(always)]
    pub fn next(&self, lanes: usize) -> Next<S, D> {
        let lanes = if self.far { lanes } else { 0 };
        Next {
            source: Ahead::new(self.source, self.len, lanes),
            to: Ahead::new(self.to.cast_const().cast(), self.len, lanes),
            far: self.far,
        }
    }

    /// Where the results of the lane that is so many further go, if there are no gaps.
    pub fn ahead(&self, lanes: usize) -> Ahead<D> {
        Ahead::new(self.to.cast_const().cast(), self.len, lanes)
    }

    /// The first `at` elements, and the rest.
    #[inline(always)]
    pub fn split_at(self, at: usize) -> (Self, Self) {
        assert!(at <= self.len, "split at {at} of {}", self.len);
        // SAFETY: `at` is within both allocations.
        let (source, to) = unsafe { (self.source.add(at), self.to.add(at)) };
        (Span { len: at, ..self }, Span { source, to, len: self.len - at, ..self })
    }

    /// Writes `value` everywhere.
    #[inline(always)]
    pub fn fill(self, value: D) -> &'a mut [D] {
        for i in 0..self.len {
            // SAFETY: inside the destination.
            unsafe { (*self.to.add(i)).write(value) };
        }
        self.written()
    }

    /// Writes `values`, which has the span's length.
    #[inline(always)]
    pub fn copy_from(self, values: &[D]) -> &'a mut [D] {
        assert_eq!(values.len(), self.len);
        for (i, value) in values.iter().enumerate() {
            // SAFETY: inside the destination.
            unsafe { (*self.to.add(i)).write(*value) };
        }
        self.written()
    }

    /// `f` over every element as f32, with the index of the block that it is in.
    #[inline(always)]
    pub fn map<I: Isa>(self, isa: I, mut f: impl FnMut(usize, I::F32) -> I::F32) -> &'a mut [D] {
        self.blocks_once(
            #[inline(always)]
            |i, from| f(i, S::load(isa, from)),
            #[inline(always)]
            |value, to| D::store(isa, value, to),
        )
    }

    /// As [`Span::numbers`], from f64 lanes to f32 lanes.
    #[inline(always)]
    pub fn narrow_numbers<I: Isa>(self, isa: I, mut f: impl FnMut(usize, I::F64) -> I::F32) -> &'a mut [D] {
        self.blocks(
            #[inline(always)]
            |i, from| f(i, S::load_wide(isa, from)),
            #[inline(always)]
            |value, to| D::store_number(isa, value, to),
        )
    }

    /// As [`Span::numbers`], beside blocks of other slices of the span's length.
    #[inline(always)]
    pub fn numbers_with<I: Isa, T: Storage, const N: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        mut f: impl FnMut(usize, I::F32, [&[T; LANES]; N]) -> I::F32,
    ) -> &'a mut [D] {
        self.blocks_with::<T, f32, N, 0, I::F32>(
            beside,
            [],
            #[inline(always)]
            |i, from, beside, []| f(i, S::load(isa, from), beside),
            #[inline(always)]
            |value, to| D::store_number(isa, value, to),
        )
    }

    /// As [`Span::map_wide`], beside blocks of other slices of the span's length.
    #[inline(always)]
    pub fn map_wide_with<I: Isa, T: Storage, const N: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        f: impl Fn(usize, I::F64, [&[T; LANES]; N]) -> I::F64,
    ) -> &'a mut [D] {
        self.map_wide_with_both::<I, T, f32, N, 0>(
            isa,
            beside,
            [],
            #[inline(always)]
            |i, v, beside, []| f(i, v, beside),
        )
    }

    /// As [`Span::map_wide_with`], beside slices of two types.
    #[inline(always)]
    pub fn map_wide_with_both<I: Isa, T: Storage, U: Storage, const N: usize, const M: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        also: [&[U]; M],
        f: impl Fn(usize, I::F64, [&[T; LANES]; N], [&[U; LANES]; M]) -> I::F64,
    ) -> &'a mut [D] {
        self.blocks_with(
            beside,
            also,
            #[inline(always)]
            |i, from, beside, also| f(i, S::load_wide(isa, from), beside, also),
            #[inline(always)]
            |value, to| D::store_wide(isa, value, to),
        )
    }

    /// As [`Span::map`], for results that are no NaN.
    #[inline(always)]
    pub fn numbers<I: Isa>(self, isa: I, mut f: impl FnMut(usize, I::F32) -> I::F32) -> &'a mut [D] {
        self.blocks(
            #[inline(always)]
            |i, from| f(i, S::load(isa, from)),
            #[inline(always)]
            |value, to| D::store_number(isa, value, to),
        )
    }

    /// As [`Span::map`], in f64.
    #[inline(always)]
    pub fn map_wide<I: Isa>(self, isa: I, f: impl Fn(usize, I::F64) -> I::F64) -> &'a mut [D] {
        self.blocks_once(
            #[inline(always)]
            |i, from| f(i, S::load_wide(isa, from)),
            #[inline(always)]
            |value, to| D::store_wide(isa, value, to),
        )
    }

    /// Writes `f` of each block of `values`, which has the span's length; the source is not read.
    #[inline(always)]
    pub fn map_from<I: Isa, T: Storage>(
        self,
        isa: I,
        values: &[T],
        f: impl FnMut(usize, I::F32) -> I::F32,
    ) -> &'a mut [D] {
        self.over(values).map(isa, f)
    }

    /// As [`Span::map_from`], in f64; for long kernels.
    #[inline(always)]
    pub fn map_from_wide<I: Isa, T: Storage>(
        self,
        isa: I,
        values: &[T],
        f: impl Fn(usize, I::F64) -> I::F64,
    ) -> &'a mut [D] {
        self.over(values).map_wide(isa, f)
    }

    /// As [`Span::map_from`], from f64 lanes to f32 lanes.
    #[inline(always)]
    pub fn narrow_from<I: Isa>(self, isa: I, values: &[f64], f: impl Fn(I::F64) -> I::F32) -> &'a mut [D] {
        self.over(values).blocks_once(
            #[inline(always)]
            |_, from| f(isa.load_f64(from)),
            #[inline(always)]
            |value, to| D::store(isa, value, to),
        )
    }

    /// Two spans of equal length, block by block in f64: `f` makes of both sources what both destinations hold.
    #[inline(always)]
    pub fn map_wide_both<I: Isa>(
        spans: [Self; 2],
        isa: I,
        f: impl Fn(usize, I::F64, I::F64) -> (I::F64, I::F64),
    ) -> [&'a mut [D]; 2] {
        Self::map_both_with::<I, f32, f32, 0, 0>(
            spans,
            isa,
            [],
            [[], []],
            #[inline(always)]
            |i, [(a, []), (b, [])], []| f(i, S::load_wide(isa, a), S::load_wide(isa, b)),
        )
    }

    /// The same from blocks as they are, beside those of other slices of the spans' length, and of some that go with each
    /// of the two.
    #[inline(always)]
    pub fn map_both_with<I: Isa, T: Storage, U: Storage, const N: usize, const M: usize>(
        spans: [Self; 2],
        isa: I,
        beside: [&[T]; N],
        each: [[&[U]; M]; 2],
        f: impl Fn(usize, [(&[S; LANES], [&[U; LANES]; M]); 2], [&[T; LANES]; N]) -> (I::F64, I::F64),
    ) -> [&'a mut [D]; 2] {
        let (mut last, mut first_last, mut second_last) =
            ([[T::NAUGHT; LANES]; N], [[U::NAUGHT; LANES]; M], [[U::NAUGHT; LANES]; M]);
        let beside = Beside::new(beside, &mut last, spans[0].len);
        let first = Beside::new(each[0], &mut first_last, spans[0].len);
        let second = Beside::new(each[1], &mut second_last, spans[0].len);
        let [a, b] = &spans;
        assert_eq!(a.len, b.len);
        let (whole, rest) = (a.len / LANES, a.len % LANES);
        let mut from_buffers = [[MaybeUninit::<S>::uninit(); LANES]; 2];
        let mut to_buffers = [[MaybeUninit::<D>::uninit(); LANES]; 2];
        if rest > 0 {
            for (span, buffer) in spans.iter().zip(&mut from_buffers) {
                let from = &span.source()[LANES * whole..];
                for (to, value) in buffer.iter_mut().zip(padded(from, from[0])) {
                    to.write(value);
                }
            }
        }
        for i in 0..whole + usize::from(rest > 0) {
            let at = if i < whole {
                // SAFETY: sixteen elements from 16 * i on are inside both ends of both spans.
                [a, b].map(|span| unsafe { (span.source.add(LANES * i), span.to.add(LANES * i)) })
            } else {
                let [from_a, from_b] = from_buffers.each_ref().map(|buffer| buffer.as_ptr().cast::<S>());
                let [to_a, to_b] = to_buffers.each_mut().map(|buffer| buffer.as_mut_ptr());
                [(from_a, to_a), (from_b, to_b)]
            };
            // SAFETY: sixteen values are there, in the sources or in the buffers just filled.
            let (x, y) = unsafe { (&*at[0].0.cast(), &*at[1].0.cast()) };
            let (of_both, of_x, of_y) = if i < whole {
                (beside.whole(i), first.whole(i), second.whole(i))
            } else {
                (beside.last.each_ref(), first.last.each_ref(), second.last.each_ref())
            };
            let (x, y) = f(i, [(x, of_x), (y, of_y)], of_both);
            // SAFETY: there is room for sixteen, and no reference to the sources is left.
            D::store_wide(isa, x, unsafe { &mut *at[0].1.cast() });
            // SAFETY: as above; the spans do not overlap.
            D::store_wide(isa, y, unsafe { &mut *at[1].1.cast() });
        }
        for (span, buffer) in spans.iter().zip(&to_buffers) {
            for (i, value) in buffer[..rest].iter().enumerate() {
                // SAFETY: inside the destination.
                unsafe { *span.to.add(LANES * whole + i) = *value };
            }
        }
        spans.map(Span::written)
    }

    /// Hands out stretches of `run` elements, a multiple of sixteen, one after the other with the index of their first
    /// block; `write` returns the memory of each.
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
            assert!(std::ptr::addr_eq(written.as_ptr(), to) && written.len() == count, "another's memory");
            first += run / LANES;
        }
        all.written()
    }

    /// The span with another source, of its length; its own is not read.
    #[inline(always)]
    pub fn reading<'b, T: Storage>(self, values: &'b [T]) -> Span<'b, T, D>
    where
        'a: 'b,
    {
        self.over(values)
    }

    /// [`Span::reading`] for a span that is consumed before `values` can change.
    #[inline(always)]
    fn over<T: Storage>(self, values: &[T]) -> Span<'a, T, D> {
        assert_eq!(values.len(), self.len);
        Span { source: values.as_ptr(), to: self.to, len: self.len, far: self.far, lifetime: PhantomData }
    }

    /// Loads, computes and stores block by block.
    #[inline(always)]
    fn blocks<V>(
        self,
        mut compute: impl FnMut(usize, &[S; LANES]) -> V,
        store: impl Fn(V, &mut [MaybeUninit<D>; LANES]),
    ) -> &'a mut [D] {
        self.blocks_with::<f32, f32, 0, 0, V>(
            [],
            [],
            #[inline(always)]
            |i, from, [], []| compute(i, from),
            store,
        )
    }

    /// Loads, computes and stores block by block, beside blocks of other slices of the span's length; two at a time, so
    /// that short kernels are as fast as what is around them.
    #[inline(always)]
    fn blocks_with<T: Storage, U: Storage, const N: usize, const M: usize, V>(
        self,
        beside: [&[T]; N],
        also: [&[U]; M],
        mut compute: impl FnMut(usize, &[S; LANES], [&[T; LANES]; N], [&[U; LANES]; M]) -> V,
        store: impl Fn(V, &mut [MaybeUninit<D>; LANES]),
    ) -> &'a mut [D] {
        let whole = self.len / LANES;
        let (mut last, mut also_last) = ([[T::NAUGHT; LANES]; N], [[U::NAUGHT; LANES]; M]);
        let beside = Beside::new(beside, &mut last, self.len);
        let also = Beside::new(also, &mut also_last, self.len);
        let all = Span { ..self };
        let pairs = self.len / (2 * LANES);
        for pair in 0..pairs {
            // SAFETY: 32 elements from 32 * pair on are inside both ends.
            let (from, to) = unsafe { (self.source.add(2 * LANES * pair), self.to.add(2 * LANES * pair)) };
            // SAFETY: 32 values are there.
            let from: &[[S; LANES]; 2] = unsafe { &*from.cast() };
            let a = compute(2 * pair, &from[0], beside.whole(2 * pair), also.whole(2 * pair));
            let b = compute(2 * pair + 1, &from[1], beside.whole(2 * pair + 1), also.whole(2 * pair + 1));
            // SAFETY: there is room for 32, and the reference to the source is gone.
            let to: &mut [[MaybeUninit<D>; LANES]; 2] = unsafe { &mut *to.cast() };
            store(a, &mut to[0]);
            store(b, &mut to[1]);
        }
        self.split_at(2 * LANES * pairs).1.blocks_once(
            #[inline(always)]
            |i, from| {
                let i = 2 * pairs + i;
                if i < whole {
                    compute(i, from, beside.whole(i), also.whole(i))
                } else {
                    compute(i, from, beside.last.each_ref(), also.last.each_ref())
                }
            },
            store,
        );
        all.written()
    }

    /// As [`Span::blocks`], one at a time; the last, shorter one goes through buffers, in which a value that is there
    /// stands for those that are missing. The body is compiled once, for long kernels.
    #[inline(always)]
    fn blocks_once<V>(
        self,
        mut compute: impl FnMut(usize, &[S; LANES]) -> V,
        store: impl Fn(V, &mut [MaybeUninit<D>; LANES]),
    ) -> &'a mut [D] {
        let whole = self.len / LANES;
        let rest = self.len % LANES;
        let mut from_buffer = [MaybeUninit::<S>::uninit(); LANES];
        let mut to_buffer = [MaybeUninit::<D>::uninit(); LANES];
        if rest > 0 {
            let from = &self.source()[LANES * whole..];
            from_buffer = padded(from, from[0]).map(MaybeUninit::new);
        }
        for i in 0..whole + usize::from(rest > 0) {
            let (from, to) = if i < whole {
                // SAFETY: sixteen elements from 16 * i on are inside both ends.
                unsafe { (self.source.add(LANES * i), self.to.add(LANES * i)) }
            } else {
                (from_buffer.as_ptr().cast(), to_buffer.as_mut_ptr())
            };
            // SAFETY: sixteen values are there, in the source or in the buffer just filled.
            let value = compute(i, unsafe { &*from.cast() });
            // SAFETY: there is room for sixteen, and the reference to the source is gone.
            store(value, unsafe { &mut *to.cast() });
        }
        for (i, value) in to_buffer[..rest].iter().enumerate() {
            // SAFETY: inside the destination.
            unsafe { *self.to.add(LANES * whole + i) = *value };
        }
        self.written()
    }

    /// Every method that ends in this has written all of the destination.
    #[inline(always)]
    fn written(self) -> &'a mut [D] {
        // SAFETY: the destination is borrowed for 'a by this span alone, and every element has been written.
        unsafe { std::slice::from_raw_parts_mut(self.to.cast(), self.len) }
    }
}
