//! Reading slices in blocks of sixteen. The last block is padded.

use super::array_vec::map_array;
use super::block::{Isa, Storage};
use super::tail::{self, BLOCK, NoPadding};
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
    /// Initial contents of the blocks that [`Slices::pad`] overwrites.
    const FILLERS: Self::Last;

    /// Copies the partial block at the end of each slice to `last`, and pads the copy. Panics unless every slice has
    /// `len` elements.
    fn pad<'l>(self, last: &'l mut Self::Last, len: usize) -> Self::Padded<'l>;

    /// Returns block `index` of each slice; a partial last block is padded.
    fn block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b>;

    /// Returns block `index` of each slice.
    ///
    /// # Safety
    /// The block must be full.
    unsafe fn full_block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b>;
}

impl Slices for () {
    type Last = ();
    type Padded<'l> = ();
    type Blocks<'b> = ();
    const FILLERS: () = ();

    #[inline(always)]
    fn pad(self, (): &mut (), _: usize) {}
    #[inline(always)]
    fn block((): &(), _: usize) {}
    #[inline(always)]
    unsafe fn full_block((): &(), _: usize) {}
}

impl<'v, T: Storage, const N: usize> Slices for [&'v [T]; N] {
    type Last = [[T; BLOCK]; N];
    type Padded<'l> = PaddedSlices<'v, 'l, T, N>;
    type Blocks<'b> = [&'b [T; BLOCK]; N];
    const FILLERS: Self::Last = [[T::FILLER; BLOCK]; N];

    #[inline(always)]
    fn pad<'l>(self, last: &'l mut Self::Last, len: usize) -> Self::Padded<'l> {
        let whole = len / BLOCK;
        for n in 0..N {
            assert_eq!(self[n].len(), len);
            let rest = &self[n][BLOCK * whole..];
            if let Some(filler) = rest.first() {
                last[n] = padded(rest, *filler);
            }
        }
        PaddedSlices { values: self, last, whole }
    }

    #[inline(always)]
    fn block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b> {
        if index < padded.whole {
            // SAFETY: the block is full.
            unsafe { Self::full_block(padded, index) }
        } else {
            padded.last.each_ref()
        }
    }

    #[inline(always)]
    unsafe fn full_block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b> {
        debug_assert!(index < padded.whole);
        map_array(
            padded.values,
            #[inline(always)]
            |values| {
                // SAFETY: the caller guarantees that the sixteen elements from 16 * index on are inside every slice.
                unsafe { &*values.as_ptr().add(BLOCK * index).cast() }
            },
        )
    }
}

impl<A: Slices, B: Slices> Slices for (A, B) {
    type Last = (A::Last, B::Last);
    type Padded<'l> = (A::Padded<'l>, B::Padded<'l>);
    type Blocks<'b> = (A::Blocks<'b>, B::Blocks<'b>);
    const FILLERS: Self::Last = (A::FILLERS, B::FILLERS);

    #[inline(always)]
    fn pad<'l>(self, last: &'l mut Self::Last, len: usize) -> Self::Padded<'l> {
        (self.0.pad(&mut last.0, len), self.1.pad(&mut last.1, len))
    }

    #[inline(always)]
    fn block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b> {
        (A::block(&padded.0, index), B::block(&padded.1, index))
    }

    #[inline(always)]
    unsafe fn full_block<'b>(padded: &'b Self::Padded<'_>, index: usize) -> Self::Blocks<'b> {
        // SAFETY: the caller guarantees that the block is full.
        unsafe { (A::full_block(&padded.0, index), B::full_block(&padded.1, index)) }
    }
}

/// Slices of equal length with their padded last blocks.
pub struct PaddedSlices<'v, 'l, T, const N: usize> {
    values: [&'v [T]; N],
    last: &'l [[T; BLOCK]; N],
    /// Number of full blocks of a slice.
    whole: usize,
}

/// Folds over the blocks of `source`, the last one padded with `pad`. `f` gets the block's index.
#[inline(always)]
pub fn fold<S: NoPadding, A>(source: &[S], pad: S, init: A, f: impl Fn(A, usize, &[S; BLOCK]) -> A) -> A {
    let (blocks, rest) = source.as_chunks::<BLOCK>();
    let mut buffer = [pad; BLOCK];
    if !rest.is_empty() {
        buffer = padded(rest, pad);
    }
    let mut acc = init;
    for i in 0..blocks.len() + usize::from(!rest.is_empty()) {
        acc = f(acc, i, blocks.get(i).unwrap_or(&buffer));
    }
    acc
}

/// Folds over the blocks of `source`, padded as in [`fold`], together with the blocks of the slices `beside`, which
/// have the same length. The last block of a slice in `beside` is padded with an element of this slice.
#[inline(always)]
pub fn fold_with<S: NoPadding, T: Storage, A, const N: usize>(
    source: &[S],
    pad: S,
    beside: [&[T]; N],
    init: A,
    f: impl Fn(A, &[S; BLOCK], [&[T; BLOCK]; N]) -> A,
) -> A {
    let mut last = <[&[T]; N]>::FILLERS;
    let beside = beside.pad(&mut last, source.len());
    let (blocks, rest) = source.as_chunks::<BLOCK>();
    let mut acc = init;
    for (i, block) in blocks.iter().enumerate() {
        // SAFETY: the slices have the length of `source`, whose block `i` is full.
        acc = f(acc, block, unsafe { <[&[T]; N]>::full_block(&beside, i) });
    }
    if rest.is_empty() {
        return acc;
    }
    f(acc, &padded(rest, pad), beside.last.each_ref())
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
