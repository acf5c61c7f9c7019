//! Maps over spans: loops that compute each block of the destination from a block of the source.
//!
//! The closure's second argument is the block. Its type, `I::F32` or `I::F64`, selects the lanes to load. The first
//! argument is the block's index.

use super::{Span, opaque};
use crate::simd::block::Isa;
use crate::simd::block::{Load, Storage, Store};
use crate::simd::blocks::Slices;
use crate::simd::tail::{self, Aligned, BLOCK};
use std::mem::MaybeUninit;

impl<'d, S: Storage, D: Storage> Span<'_, 'd, S, D> {
    /// Applies `f` to every block. `f` is compiled once, which suits long kernels.
    #[inline(always)]
    pub fn map<I: Isa, V: Load<I>, R: Store<I>>(self, isa: I, mut f: impl FnMut(usize, V) -> R) -> &'d mut [D] {
        self.map_with(
            isa,
            (),
            #[inline(always)]
            |i, v, ()| f(i, v),
        )
    }

    /// Works like [`Span::map`]; `f` also gets the blocks of other slices, which have the span's length.
    #[inline(always)]
    pub fn map_with<I: Isa, O: Slices, V: Load<I>, R: Store<I>>(
        self,
        isa: I,
        others: O,
        f: impl FnMut(usize, V, O::Blocks<'_>) -> R,
    ) -> &'d mut [D] {
        let mut last = O::UNINIT;
        let others = others.pad(&mut last, self.len);
        self.each_block::<I, O, V, R>(isa, 0, others, f)
    }

    /// Works like [`Span::map`] with two blocks per iteration. `f` is then compiled three times, so this method is only
    /// for kernels that it makes faster: a few instructions per block.
    #[inline(always)]
    pub fn map_unrolled<I: Isa, V: Load<I>, R: Store<I>>(
        self,
        isa: I,
        mut f: impl FnMut(usize, V) -> R,
    ) -> &'d mut [D] {
        self.map_unrolled_with(
            isa,
            (),
            true,
            #[inline(always)]
            |i, v, ()| f(i, v),
        )
    }

    /// Works like [`Span::map_unrolled`] if `in_pairs` is set, which must be a constant, and otherwise like
    /// [`Span::map`]. `f` also gets the blocks of other slices, which have the span's length.
    #[inline(always)]
    pub fn map_unrolled_with<I: Isa, O: Slices, V: Load<I>, R: Store<I>>(
        self,
        isa: I,
        others: O,
        in_pairs: bool,
        mut f: impl FnMut(usize, V, O::Blocks<'_>) -> R,
    ) -> &'d mut [D] {
        let mut last = O::UNINIT;
        let others = others.pad(&mut last, self.len);
        let in_pairs = if in_pairs { self.len / (2 * BLOCK) * 2 } else { 0 };
        let mut i = 0;
        while i < in_pairs {
            // SAFETY: the 32 elements from 16 * i on are inside source and destination.
            let (from, to) = unsafe { (self.source.add(BLOCK * i), self.to.add(BLOCK * i)) };
            // SAFETY: `from` points to 32 readable values.
            let from: &[[S; BLOCK]; 2] = unsafe { &*from.cast() };
            // SAFETY: the block is full.
            let a = f(i, V::load(isa, &from[0]), unsafe { O::block(&others, i) });
            // SAFETY: the block is full.
            let b = f(i + 1, V::load(isa, &from[1]), unsafe { O::block(&others, i + 1) });
            // SAFETY: `to` points to space for 32 values, and the reference to the source is no longer used.
            let to: &mut [[MaybeUninit<D>; BLOCK]; 2] = unsafe { &mut *to.cast() };
            a.store(isa, &mut to[0]);
            b.store(isa, &mut to[1]);
            i += 2;
        }
        // Hides the index from the compiler, which would unroll a loop that it knows to have at most two iterations.
        self.each_block::<I, O, V, R>(isa, opaque(in_pairs), others, f)
    }

    /// Maps two spans of equal length together. `f` computes a block of each destination. Its arguments are the blocks
    /// of the two sources and of other slices, which are as long as the spans.
    #[inline(always)]
    pub fn map_pair<I: Isa, O: Slices, V: Load<I>, R: Store<I>>(
        spans: [Self; 2],
        isa: I,
        others: O,
        mut f: impl FnMut(usize, [V; 2], O::Blocks<'_>) -> [R; 2],
    ) -> [&'d mut [D]; 2] {
        let mut last = O::UNINIT;
        let mut others = others.pad(&mut last, spans[0].len);
        let [a, b] = &spans;
        assert_eq!(a.len, b.len);
        let (whole, rest) = (a.len / BLOCK, a.len % BLOCK);
        let mut from_buffers = [Aligned(MaybeUninit::<[S; BLOCK]>::uninit()); 2];
        let mut to_buffers = [Aligned(MaybeUninit::<[D; BLOCK]>::uninit()); 2];
        if rest > 0 {
            for (span, buffer) in spans.iter().zip(&mut from_buffers) {
                // SAFETY: the source has `rest` elements behind the first 16 * whole.
                let values = unsafe { std::slice::from_raw_parts(span.source.add(BLOCK * whole), rest) };
                tail::pad(values, values[0], &mut buffer.0);
            }
        }
        let (mut from, mut to) = ([a.source, b.source], [a.to, b.to]);
        let (mut i, mut end, mut left) = (0, whole, opaque(rest));
        // These loops work like the loops of `each_block`.
        loop {
            while i < end {
                let [from_a, from_b] = [from[0].wrapping_add(BLOCK * i), from[1].wrapping_add(BLOCK * i)];
                let [to_a, to_b] = [to[0].wrapping_add(BLOCK * i), to[1].wrapping_add(BLOCK * i)];
                // SAFETY: block `i` is inside the slices, or is the padded last block.
                let blocks = unsafe { O::block(&others, i) };
                // SAFETY: sixteen values are readable, in the sources or in the buffers just filled.
                let (x, y) = unsafe { (&*from_a.cast(), &*from_b.cast()) };
                let [x, y] = f(i, [V::load::<S>(isa, x), V::load::<S>(isa, y)], blocks);
                // SAFETY: there is space for sixteen values, and no reference to the sources is left.
                x.store::<D>(isa, unsafe { &mut *to_a.cast() });
                // SAFETY: there is space for sixteen values, and the spans do not overlap.
                y.store::<D>(isa, unsafe { &mut *to_b.cast() });
                i += 1;
            }
            if left == 0 {
                break;
            }
            left = 0;
            for n in 0..2 {
                from[n] = from_buffers[n].0.as_ptr().cast::<S>().wrapping_sub(BLOCK * whole);
                to[n] = to_buffers[n].0.as_mut_ptr().cast::<MaybeUninit<D>>().wrapping_sub(BLOCK * whole);
            }
            O::turn_to_last(&mut others, whole);
            end = whole + 1;
        }
        if rest > 0 {
            for (span, buffer) in spans.iter().zip(&to_buffers) {
                // SAFETY: the buffer was filled, and the `rest` elements from 16 * whole on are inside the destination.
                unsafe { tail::copy_part(buffer.0.assume_init_ref(), span.to.add(BLOCK * whole).cast(), rest) };
            }
        }
        spans.map(Span::written)
    }

    /// Maps the two halves of a span of even length together, as [`Span::map_pair`] does for two spans.
    #[inline(always)]
    pub fn map_halves<I: Isa, O: Slices, V: Load<I>, R: Store<I>>(
        self,
        isa: I,
        others: O,
        f: impl FnMut(usize, [V; 2], O::Blocks<'_>) -> [R; 2],
    ) -> &'d mut [D] {
        let all = Span { ..self };
        let (first, second) = self.split_at(all.len / 2);
        Span::map_pair([first, second], isa, others, f);
        all.written()
    }

    /// Loads, computes and stores block by block, from block `first` on. A partial last block is copied to a buffer and
    /// padded with one of its values.
    ///
    /// The outer loop runs once for the full blocks and once for the buffer, so that `f` is compiled once and the inner
    /// loop has no branch between the two.
    #[inline(always)]
    fn each_block<I: Isa, O: Slices, V: Load<I>, R: Store<I>>(
        self,
        isa: I,
        first: usize,
        mut others: O::Padded<'_>,
        mut f: impl FnMut(usize, V, O::Blocks<'_>) -> R,
    ) -> &'d mut [D] {
        let whole = self.len / BLOCK;
        let rest = self.len % BLOCK;
        let mut from_buffer = Aligned(MaybeUninit::<[S; BLOCK]>::uninit());
        let mut to_buffer = Aligned(MaybeUninit::<[D; BLOCK]>::uninit());
        if rest > 0 {
            // SAFETY: the source has `rest` elements behind the first 16 * whole.
            unsafe { read_tail(isa, self.source.add(BLOCK * whole), rest, &mut from_buffer.0) };
        }
        let (mut from, mut to) = (self.source, self.to);
        let (mut i, mut end, mut left) = (first, whole, opaque(rest));
        loop {
            // A `while` loop, because every kernel contains this code, and a `for` loop takes longer to compile.
            while i < end {
                // SAFETY: block `i` is inside the slices, or is the padded last block.
                let blocks = unsafe { O::block(&others, i) };
                // SAFETY: sixteen values are readable, in the source or in the buffer just filled.
                let block = unsafe { &*from.wrapping_add(BLOCK * i).cast() };
                let value = f(i, V::load::<S>(isa, block), blocks);
                // SAFETY: the destination or the buffer has space for sixteen values, and the reference to the source
                // is no longer used.
                value.store::<D>(isa, unsafe { &mut *to.wrapping_add(BLOCK * i).cast() });
                i += 1;
            }
            if left == 0 {
                break;
            }
            left = 0;
            // Block `whole` of these pointers is the buffer.
            from = from_buffer.0.as_ptr().cast::<S>().wrapping_sub(BLOCK * whole);
            to = to_buffer.0.as_mut_ptr().cast::<MaybeUninit<D>>().wrapping_sub(BLOCK * whole);
            O::turn_to_last(&mut others, whole);
            end = whole + 1;
        }
        if rest > 0 {
            // SAFETY: the buffer was filled, and the `rest` elements from 16 * whole on are inside the destination.
            unsafe { write_tail(isa, &to_buffer.0, self.to.add(BLOCK * whole), rest) };
        }
        self.written()
    }
}

/// Copies `rest` elements to the start of the buffer, and fills the remainder with the first of these elements.
///
/// # Safety
/// `from` must point to `rest` values, at least one and at most sixteen.
#[inline(always)]
unsafe fn read_tail<I: Isa, S: Storage>(_: I, from: *const S, rest: usize, buffer: &mut MaybeUninit<[S; BLOCK]>) {
    // SAFETY: the caller guarantees valid memory.
    let values = unsafe { std::slice::from_raw_parts(from, rest) };
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if I::HAS_MASKED_MEMORY {
        // SAFETY: the token proves that the CPU has the instructions. There are at most sixteen values.
        return unsafe { tail::masked::pad(values, values[0], buffer.as_mut_ptr().cast()) };
    }
    tail::pad(values, values[0], buffer);
}

/// Copies the first `rest` values of the buffer.
///
/// # Safety
/// The buffer must be initialised. `to` must point to memory for `rest` values, at most sixteen, outside the buffer.
#[inline(always)]
unsafe fn write_tail<I: Isa, D: Storage>(_: I, buffer: &MaybeUninit<[D; BLOCK]>, to: *mut MaybeUninit<D>, rest: usize) {
    // SAFETY: the caller guarantees initialised values.
    let block = unsafe { buffer.assume_init_ref() };
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if I::HAS_MASKED_MEMORY {
        // SAFETY: the token proves that the CPU has the instructions. The caller guarantees valid memory.
        return unsafe { tail::masked::copy_part(block, to.cast(), rest) };
    }
    // SAFETY: the caller guarantees valid memory.
    unsafe { tail::copy_part(block, to.cast(), rest) };
}
