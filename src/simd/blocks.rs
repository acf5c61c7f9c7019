//! Reading slices in blocks of sixteen. The last block is padded.

use super::array_vec::map_array;
use super::block::{Isa, Storage};
use super::slice::opaque;
use super::tail::{self, Aligned, BLOCK, NoPadding};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Further slices that a map over a [`Span`](super::Span) reads, each as long as the span. They are an array of slices,
/// or a pair of such arrays with different element types.
pub trait Slices {
    /// Padded last block of each slice.
    type Last;
    /// The slices with their padded last blocks.
    type Padded<'l>;
    /// Blocks of the slices at one index.
    type Blocks<'b>: Copy;
    /// Uninitialised blocks for [`Slices::pad`].
    const UNINIT: Self::Last;

    /// Copies the partial block at the end of each slice to `last`, and pads the copy. Panics unless every slice has
    /// `len` elements.
    fn pad<'l>(self, last: &'l mut Self::Last, len: usize) -> Self::Padded<'l>;

    /// Makes [`Slices::block`] return the padded last blocks for this index, and only for this index.
    fn turn_to_last(padded: &mut Self::Padded<'_>, index: usize);

    /// Returns block `index` of each slice.
    ///
    /// # Safety
    /// The block must be full. After a call of [`Slices::turn_to_last`], the index must instead be the argument of that
    /// call, and the slices must have ended with a partial block.
    unsafe fn block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b>;
}

impl Slices for () {
    type Last = ();
    type Padded<'l> = ();
    type Blocks<'b> = ();
    const UNINIT: () = ();

    #[inline(always)]
    fn pad(self, (): &mut (), _: usize) {}
    #[inline(always)]
    fn turn_to_last((): &mut (), _: usize) {}
    #[inline(always)]
    unsafe fn block((): &(), _: usize) {}
}

impl<'v, T: Storage, const N: usize> Slices for [&'v [T]; N] {
    type Last = [Aligned<MaybeUninit<[T; BLOCK]>>; N];
    type Padded<'l> = PaddedSlices<'v, 'l, T, N>;
    type Blocks<'b> = [&'b [T; BLOCK]; N];
    const UNINIT: Self::Last = [Aligned(MaybeUninit::uninit()); N];

    #[inline(always)]
    fn pad<'l>(self, last: &'l mut Self::Last, len: usize) -> Self::Padded<'l> {
        let whole = len / BLOCK;
        for n in 0..N {
            assert_eq!(self[n].len(), len);
            let rest = &self[n][BLOCK * whole..];
            if let Some(filler) = rest.first() {
                tail::pad(rest, *filler, &mut last[n].0);
            }
        }
        let values = map_array(self, <[T]>::as_ptr);
        PaddedSlices { values, last, borrowed: PhantomData }
    }

    #[inline(always)]
    fn turn_to_last(padded: &mut Self::Padded<'_>, index: usize) {
        for n in 0..N {
            padded.values[n] = padded.last[n].0.as_ptr().cast::<T>().wrapping_sub(BLOCK * index);
        }
    }

    #[inline(always)]
    unsafe fn block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b> {
        map_array(
            padded.values,
            #[inline(always)]
            |values| {
                // SAFETY: the caller guarantees that the sixteen elements from 16 * index on are inside every slice, or
                // are the padded last blocks.
                unsafe { &*values.wrapping_add(BLOCK * index).cast() }
            },
        )
    }
}

impl<A: Slices, B: Slices> Slices for (A, B) {
    type Last = (A::Last, B::Last);
    type Padded<'l> = (A::Padded<'l>, B::Padded<'l>);
    type Blocks<'b> = (A::Blocks<'b>, B::Blocks<'b>);
    const UNINIT: Self::Last = (A::UNINIT, B::UNINIT);

    #[inline(always)]
    fn pad<'l>(self, last: &'l mut Self::Last, len: usize) -> Self::Padded<'l> {
        (self.0.pad(&mut last.0, len), self.1.pad(&mut last.1, len))
    }

    #[inline(always)]
    fn turn_to_last(padded: &mut Self::Padded<'_>, index: usize) {
        A::turn_to_last(&mut padded.0, index);
        B::turn_to_last(&mut padded.1, index);
    }

    #[inline(always)]
    unsafe fn block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b> {
        // SAFETY: the caller keeps the contract of `block` for `A` and for `B`.
        unsafe { (A::block(&padded.0, index), B::block(&padded.1, index)) }
    }
}

/// Slices of equal length with their padded last blocks.
pub struct PaddedSlices<'v, 'l, T, const N: usize> {
    /// Start of each slice.
    values: [*const T; N],
    last: &'l [Aligned<MaybeUninit<[T; BLOCK]>>; N],
    borrowed: PhantomData<[&'v [T]; N]>,
}

/// Folds over the blocks of `source`, the last one padded with `pad`. `f` gets the block's index.
#[inline(always)]
pub fn fold<S: NoPadding, A>(source: &[S], pad: S, init: A, f: impl Fn(A, usize, &[S; BLOCK]) -> A) -> A {
    fold_with::<S, f32, A, 0>(
        source,
        pad,
        [],
        init,
        #[inline(always)]
        |acc, i, block, []| f(acc, i, block),
    )
}

/// Folds over the blocks of `source`, padded as in [`fold`], together with the blocks of the slices `beside`, which
/// have the same length. The last block of a slice in `beside` is padded with an element of this slice.
#[inline(always)]
pub fn fold_with<S: NoPadding, T: Storage, A, const N: usize>(
    source: &[S],
    pad: S,
    beside: [&[T]; N],
    init: A,
    f: impl Fn(A, usize, &[S; BLOCK], [&[T; BLOCK]; N]) -> A,
) -> A {
    let mut last = <[&[T]; N]>::UNINIT;
    let mut beside = beside.pad(&mut last, source.len());
    let (mut blocks, rest) = source.as_chunks::<BLOCK>();
    let mut buffer = Aligned([pad; BLOCK]);
    if !rest.is_empty() {
        buffer.0 = padded(rest, pad);
    }
    let (mut acc, mut i, mut left) = (init, 0, opaque(rest.len()));
    // The outer loop runs once for the full blocks and once for the buffer, so that `f` is compiled once.
    loop {
        for block in blocks {
            // SAFETY: block `i` of `source` is full, and the slices have the length of `source`. For the last block,
            // the index is the argument of `turn_to_last`.
            acc = f(acc, i, block, unsafe { <[&[T]; N]>::block(&beside, i) });
            i += 1;
        }
        if left == 0 {
            return acc;
        }
        (blocks, left) = (std::slice::from_ref(&buffer.0), 0);
        <[&[T]; N]>::turn_to_last(&mut beside, i);
    }
}

/// Calls `f` with block `index`. Positions after the last element hold `filler`.
#[inline(always)]
pub fn with_block<S: NoPadding, R>(values: &[S], index: usize, filler: S, f: impl FnOnce(&[S; BLOCK]) -> R) -> R {
    let mut buffer = MaybeUninit::uninit();
    f(match values.as_chunks::<BLOCK>().0.get(index) {
        Some(block) => block,
        None => pad_block(values, index, filler, &mut buffer),
    })
}

#[cold]
#[inline(never)]
fn pad_block<'a, S: NoPadding>(
    values: &[S],
    index: usize,
    filler: S,
    to: &'a mut MaybeUninit<[S; BLOCK]>,
) -> &'a mut [S; BLOCK] {
    tail::pad(values.get(index * BLOCK..).unwrap_or(&[]), filler, to)
}

/// Loads block `index` as f64 lanes. Positions after the last element hold `filler`.
#[inline(always)]
pub fn load_wide<I: Isa, S: Storage>(isa: I, values: &[S], index: usize, filler: S) -> I::F64 {
    with_block(
        values,
        index,
        filler,
        #[inline(always)]
        |block| S::load_wide(isa, block),
    )
}

/// Loads block `index` as f32 lanes. Positions after the last element hold `filler`.
#[inline(always)]
pub fn load<I: Isa, S: Storage>(isa: I, values: &[S], index: usize, filler: S) -> I::F32 {
    with_block(
        values,
        index,
        filler,
        #[inline(always)]
        |block| S::load(isa, block),
    )
}

/// Returns a mask of the flags in block `index`. Lanes after the last flag are not set.
#[inline(always)]
pub fn load_flags<I: Isa>(isa: I, flags: &[u8], index: usize) -> I::M32 {
    with_block(
        flags,
        index,
        0,
        #[inline(always)]
        |block| isa.load_flags(block),
    )
}

/// Returns block `index` of a row that has `values` from position `first` on, and `pad` elsewhere.
#[inline(always)]
pub fn block_within<S: NoPadding>(values: &[S], first: usize, index: usize, pad: S) -> [S; BLOCK] {
    match (index * BLOCK).checked_sub(first) {
        Some(at) => match values.get(at..).and_then(<[S]>::first_chunk::<BLOCK>) {
            Some(block) => *block,
            None => padded(values.get(at..).unwrap_or(&[]), pad),
        },
        None => {
            let mut block = [pad; BLOCK];
            let behind = (first - index * BLOCK).min(BLOCK);
            for (to, value) in block[behind..].iter_mut().zip(values) {
                *to = *value;
            }
            block
        }
    }
}

/// Returns the values, at most sixteen, followed by `filler`.
#[inline(always)]
pub fn padded<S: NoPadding>(values: &[S], filler: S) -> [S; BLOCK] {
    let mut block = MaybeUninit::uninit();
    *tail::pad(values, filler, &mut block)
}

/// Copies the values to the start of `to`. Like [`tail::pad`], this function is not inlined.
#[cold]
#[inline(never)]
pub fn copy_to_start<S: Copy>(values: &[S], to: &mut [S]) {
    to[..values.len()].copy_from_slice(values);
}
