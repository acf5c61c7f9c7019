//! Maps over spans: functions that compute each block of the destination from a block of the source.

use super::Span;
use crate::simd::block::Isa;
use crate::simd::blocks::Beside;
use crate::simd::slice::{BLOCK, read_tail, write_tail};
use crate::simd::storage::Storage;
use std::mem::MaybeUninit;

impl<'a, S: Storage, D: Storage> Span<'a, S, D> {
    /// Applies `f` to every block as f32 lanes. `f` also gets the block's index.
    #[inline(always)]
    pub fn map<I: Isa>(self, isa: I, mut f: impl FnMut(usize, I::F32) -> I::F32) -> &'a mut [D] {
        self.blocks_once(
            #[inline(always)]
            |i, from| f(i, S::load(isa, from)),
            #[inline(always)]
            |value, to| D::store(isa, value, to),
        )
    }

    /// Works like [`Span::numbers`], but `f` maps f64 lanes to f32 lanes.
    #[inline(always)]
    pub fn narrow_numbers<I: Isa>(self, isa: I, mut f: impl FnMut(usize, I::F64) -> I::F32) -> &'a mut [D] {
        self.blocks::<I, _>(
            #[inline(always)]
            |i, from| f(i, S::load_wide(isa, from)),
            #[inline(always)]
            |value, to| D::store_number(isa, value, to),
        )
    }

    /// Works like [`Span::numbers`]; `f` also gets the blocks of other slices of the span's length.
    #[inline(always)]
    pub fn numbers_with<I: Isa, T: Storage, const N: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        mut f: impl FnMut(usize, I::F32, [&[T; BLOCK]; N]) -> I::F32,
    ) -> &'a mut [D] {
        self.blocks_with::<I, T, f32, N, 0, I::F32>(
            beside,
            [],
            #[inline(always)]
            |i, from, beside, []| f(i, S::load(isa, from), beside),
            #[inline(always)]
            |value, to| D::store_number(isa, value, to),
        )
    }

    /// Works like [`Span::map_wide`]; `f` also gets the blocks of other slices of the span's length.
    #[inline(always)]
    pub fn map_wide_with<I: Isa, T: Storage, const N: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        f: impl Fn(usize, I::F64, [&[T; BLOCK]; N]) -> I::F64,
    ) -> &'a mut [D] {
        self.map_wide_with_both::<I, T, f32, N, 0>(
            isa,
            beside,
            [],
            #[inline(always)]
            |i, v, beside, []| f(i, v, beside),
        )
    }

    /// Works like [`Span::map_wide_with`], but the other slices may have two element types.
    #[inline(always)]
    pub fn map_wide_with_both<I: Isa, T: Storage, U: Storage, const N: usize, const M: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        also: [&[U]; M],
        f: impl Fn(usize, I::F64, [&[T; BLOCK]; N], [&[U; BLOCK]; M]) -> I::F64,
    ) -> &'a mut [D] {
        self.blocks_with::<I, T, U, N, M, I::F64>(
            beside,
            also,
            #[inline(always)]
            |i, from, beside, also| f(i, S::load_wide(isa, from), beside, also),
            #[inline(always)]
            |value, to| D::store_wide(isa, value, to),
        )
    }

    /// Works like [`Span::map`], for results that are never NaN.
    #[inline(always)]
    pub fn numbers<I: Isa>(self, isa: I, mut f: impl FnMut(usize, I::F32) -> I::F32) -> &'a mut [D] {
        self.blocks::<I, _>(
            #[inline(always)]
            |i, from| f(i, S::load(isa, from)),
            #[inline(always)]
            |value, to| D::store_number(isa, value, to),
        )
    }

    /// Works like [`Span::map`], but with f64 lanes.
    #[inline(always)]
    pub fn map_wide<I: Isa>(self, isa: I, f: impl Fn(usize, I::F64) -> I::F64) -> &'a mut [D] {
        self.blocks_once(
            #[inline(always)]
            |i, from| f(i, S::load_wide(isa, from)),
            #[inline(always)]
            |value, to| D::store_wide(isa, value, to),
        )
    }

    /// Works like [`Span::map`]; `f` also gets the blocks of other slices of the span's length.
    #[inline(always)]
    pub fn map_beside<I: Isa, T: Storage, const N: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        mut f: impl FnMut(usize, I::F32, [&[T; BLOCK]; N]) -> I::F32,
    ) -> &'a mut [D] {
        self.blocks_once_with(
            beside,
            #[inline(always)]
            |i, from, beside| f(i, S::load(isa, from), beside),
            #[inline(always)]
            |value, to| D::store(isa, value, to),
        )
    }

    /// Works like [`Span::map_beside`], but with f64 lanes.
    #[inline(always)]
    pub fn map_wide_beside<I: Isa, T: Storage, const N: usize>(
        self,
        isa: I,
        beside: [&[T]; N],
        f: impl Fn(usize, I::F64, [&[T; BLOCK]; N]) -> I::F64,
    ) -> &'a mut [D] {
        self.blocks_once_with(
            beside,
            #[inline(always)]
            |i, from, beside| f(i, S::load_wide(isa, from), beside),
            #[inline(always)]
            |value, to| D::store_wide(isa, value, to),
        )
    }

    /// Writes the result of `f` for each block of `values`, which must have the span's length. The span's source is not
    /// read.
    #[inline(always)]
    pub fn map_from<I: Isa, T: Storage>(
        self,
        isa: I,
        values: &[T],
        f: impl FnMut(usize, I::F32) -> I::F32,
    ) -> &'a mut [D] {
        self.over(values).map(isa, f)
    }

    /// Works like [`Span::map_from`], but with f64 lanes.
    #[inline(always)]
    pub fn map_from_wide<I: Isa, T: Storage>(
        self,
        isa: I,
        values: &[T],
        f: impl Fn(usize, I::F64) -> I::F64,
    ) -> &'a mut [D] {
        self.over(values).map_wide(isa, f)
    }

    /// Works like [`Span::map_from`], but `f` maps f64 lanes to f32 lanes and gets no index.
    #[inline(always)]
    pub fn narrow_from<I: Isa>(self, isa: I, values: &[f64], f: impl Fn(I::F64) -> I::F32) -> &'a mut [D] {
        self.over(values).blocks_once(
            #[inline(always)]
            |_, from| f(isa.load_f64(from)),
            #[inline(always)]
            |value, to| D::store(isa, value, to),
        )
    }

    /// Maps two spans of equal length together, block by block in f64: `f` computes both results from both sources.
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

    /// Maps two spans of equal length together, with source blocks in the storage type. `f` also gets blocks of other
    /// slices of this length: the common slices `beside`, and the slices `each[i]` of span `i`.
    #[inline(always)]
    pub fn map_both_with<I: Isa, T: Storage, U: Storage, const N: usize, const M: usize>(
        spans: [Self; 2],
        isa: I,
        beside: [&[T]; N],
        each: [[&[U]; M]; 2],
        f: impl Fn(usize, [(&[S; BLOCK], [&[U; BLOCK]; M]); 2], [&[T; BLOCK]; N]) -> (I::F64, I::F64),
    ) -> [&'a mut [D]; 2] {
        let (mut last, mut first_last, mut second_last) =
            ([[T::FILLER; BLOCK]; N], [[U::FILLER; BLOCK]; M], [[U::FILLER; BLOCK]; M]);
        let beside = Beside::new(beside, &mut last, spans[0].len);
        let first = Beside::new(each[0], &mut first_last, spans[0].len);
        let second = Beside::new(each[1], &mut second_last, spans[0].len);
        let [a, b] = &spans;
        assert_eq!(a.len, b.len);
        let (whole, rest) = (a.len / BLOCK, a.len % BLOCK);
        let mut from_buffers = [MaybeUninit::<[S; BLOCK]>::uninit(); 2];
        let mut to_buffers = [[MaybeUninit::<D>::uninit(); BLOCK]; 2];
        if rest > 0 {
            for (span, buffer) in spans.iter().zip(&mut from_buffers) {
                // SAFETY: the `rest` elements from 16 * whole on are inside the source.
                unsafe { read_tail(span.source.add(BLOCK * whole), rest, buffer) };
            }
        }
        for i in 0..whole + usize::from(rest > 0) {
            let at = if i < whole {
                // SAFETY: the sixteen elements from 16 * i on are inside source and destination of both spans.
                [a, b].map(|span| unsafe { (span.source.add(BLOCK * i), span.to.add(BLOCK * i)) })
            } else {
                let [from_a, from_b] = from_buffers.each_ref().map(|buffer| buffer.as_ptr().cast::<S>());
                let [to_a, to_b] = to_buffers.each_mut().map(|buffer| buffer.as_mut_ptr());
                [(from_a, to_a), (from_b, to_b)]
            };
            // SAFETY: sixteen values are readable, in the sources or in the buffers just filled.
            let (x, y) = unsafe { (&*at[0].0.cast(), &*at[1].0.cast()) };
            let (x, y) = f(i, [(x, first.block(i)), (y, second.block(i))], beside.block(i));
            // SAFETY: sixteen values fit, and no reference to the sources is left.
            D::store_wide(isa, x, unsafe { &mut *at[0].1.cast() });
            // SAFETY: sixteen values fit, and the spans do not overlap.
            D::store_wide(isa, y, unsafe { &mut *at[1].1.cast() });
        }
        if rest > 0 {
            for (span, buffer) in spans.iter().zip(&to_buffers) {
                // SAFETY: the `rest` elements from 16 * whole on are inside the destination.
                unsafe { write_tail(buffer, span.to.add(BLOCK * whole), rest) };
            }
        }
        spans.map(Span::written)
    }
}
