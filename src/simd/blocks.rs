//! Slices read in blocks of sixteen, the last one padded.

use super::block::Isa;
use super::slice::BLOCK;
use super::storage::Storage;
use std::mem::MaybeUninit;

/// Slices that are read along with a span, and their padded last blocks.
pub(super) struct Beside<'b, T, const N: usize> {
    pub(super) values: [&'b [T]; N],
    pub(super) last: &'b [[T; BLOCK]; N],
    pub(super) whole: usize,
}

impl<'b, T: Copy, const N: usize> Beside<'b, T, N> {
    /// Prepares slices of `len` elements. Copies the partial block at the end of each slice to `last`, and pads it.
    #[inline(always)]
    pub(super) fn new(values: [&'b [T]; N], last: &'b mut [[T; BLOCK]; N], len: usize) -> Self {
        let whole = len / BLOCK;
        for n in 0..N {
            assert_eq!(values[n].len(), len);
            let rest = &values[n][BLOCK * whole..];
            if let Some(filler) = rest.first() {
                last[n] = padded(rest, *filler);
            }
        }
        Beside { values, last, whole }
    }

    /// Returns block `index` of each slice; a partial last block is padded.
    #[inline(always)]
    pub(super) fn block(&self, index: usize) -> [&'b [T; BLOCK]; N] {
        let mut blocks = self.last.each_ref();
        if index < self.whole {
            blocks = self.whole(index);
        }
        blocks
    }

    /// Returns block `index` of each slice, which must be full.
    #[inline(always)]
    pub(super) fn whole(&self, index: usize) -> [&'b [T; BLOCK]; N] {
        debug_assert!(index < self.whole);
        let mut blocks = self.last.each_ref();
        for (block, values) in blocks.iter_mut().zip(self.values) {
            // SAFETY: the sixteen elements from 16 * index on are inside every slice.
            *block = unsafe { &*values.as_ptr().add(BLOCK * index).cast() };
        }
        blocks
    }
}

/// Folds over the blocks of `source`, the last one padded with `pad`. `f` gets the block's index.
#[inline(always)]
pub fn fold<S: Copy, A>(source: &[S], pad: S, init: A, f: impl Fn(A, usize, &[S; BLOCK]) -> A) -> A {
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

/// Folds as [`fold`] does, together with the blocks of other slices of the same length. Each slice's last block is
/// padded with an element of that slice.
#[inline(always)]
pub fn fold_with<S: Copy, T: Storage, A, const N: usize>(
    source: &[S],
    pad: S,
    beside: [&[T]; N],
    init: A,
    f: impl Fn(A, &[S; BLOCK], [&[T; BLOCK]; N]) -> A,
) -> A {
    let mut last = [[T::FILLER; BLOCK]; N];
    let beside = Beside::new(beside, &mut last, source.len());
    let (blocks, rest) = source.as_chunks::<BLOCK>();
    let mut acc = init;
    for (i, block) in blocks.iter().enumerate() {
        acc = f(acc, block, beside.whole(i));
    }
    if rest.is_empty() {
        return acc;
    }
    f(acc, &padded(rest, pad), beside.last.each_ref())
}

/// Calls `f` with the block with this index. Positions after the last element hold `filler`.
#[inline(always)]
pub fn with_block<S: Copy, R>(values: &[S], index: usize, filler: S, f: impl FnOnce(&[S; BLOCK]) -> R) -> R {
    let mut buffer = MaybeUninit::uninit();
    f(match values.as_chunks::<BLOCK>().0.get(index) {
        Some(block) => block,
        None => pad_block(values, index, filler, &mut buffer),
    })
}

#[cold]
#[inline(never)]
fn pad_block<'a, S: Copy>(
    values: &[S],
    index: usize,
    filler: S,
    to: &'a mut MaybeUninit<[S; BLOCK]>,
) -> &'a mut [S; BLOCK] {
    pad(values.get(index * BLOCK..).unwrap_or(&[]), filler, to)
}

/// Loads the block with this index as f64 lanes. Positions after the last element hold `filler`.
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

/// Loads the block with this index as f32 lanes. Positions after the last element hold `filler`.
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

/// Returns a mask of the flags in the block with this index. Lanes after the last flag are not set.
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
pub fn block_within<S: Copy>(values: &[S], first: usize, index: usize, pad: S) -> [S; BLOCK] {
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
pub fn padded<S: Copy>(values: &[S], filler: S) -> [S; BLOCK] {
    let mut block = MaybeUninit::uninit();
    *pad(values, filler, &mut block)
}

/// Writes the values, at most sixteen, followed by `filler`. It is not inlined, because most kernels call it only at
/// the end of a row.
#[cold]
#[inline(never)]
pub(super) fn pad<'a, S: Copy>(values: &[S], filler: S, to: &'a mut MaybeUninit<[S; BLOCK]>) -> &'a mut [S; BLOCK] {
    let to = to.write([filler; BLOCK]);
    to[..values.len()].copy_from_slice(values);
    to
}

/// Copies the values to the start of `to`. It is not inlined, like [`pad`].
#[cold]
#[inline(never)]
pub fn copy_to_start<S: Copy>(values: &[S], to: &mut [S]) {
    to[..values.len()].copy_from_slice(values);
}
