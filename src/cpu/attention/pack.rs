//! Packing of keys and values for matrix products: panels of sixteen columns, widened to f32.

// Allows loops over indices, because each index addresses several arrays.
#![allow(clippy::needless_range_loop)]

use crate::element::Element;
use crate::simd::{BLOCK, Float, Isa, MaskBits, Select, padded};

/// Packs keys into consecutive panels of sixteen keys: `[keys / 16][features][16]`. Entries past the last key are
/// unspecified.
#[inline(always)]
pub fn keys<'a, I: Isa, E: Element>(
    isa: I,
    rows: impl Fn(usize) -> &'a [E],
    count: usize,
    features: usize,
    panels: &mut [[f32; BLOCK]],
) {
    for (panel, to) in panels.chunks_exact_mut(features.max(1)).take(count.div_ceil(BLOCK)).enumerate() {
        sixteen_keys(
            isa,
            |i| rows((panel * BLOCK + i).min(count - 1)),
            features,
            #[inline(always)]
            |first, some, block| {
                for (i, to) in to[first..][..some].iter_mut().enumerate() {
                    *to = isa.array_f32(block[i]);
                }
            },
        );
    }
}

/// Calls `each` for blocks of sixteen keys and up to sixteen features. The arguments are the index of the first
/// feature, the number of features, and one register for each feature. A register holds one number for each key.
#[inline(always)]
pub fn sixteen_keys<'a, I: Isa, E: Element>(
    isa: I,
    row: impl Fn(usize) -> &'a [E],
    features: usize,
    mut each: impl FnMut(usize, usize, [I::F32; BLOCK]),
) {
    let (whole, rest) = (features / BLOCK, features % BLOCK);
    let mut rows = [&row(0)[..features]; BLOCK];
    let mut blocks = [&rows[0].as_chunks::<BLOCK>().0[..whole]; BLOCK];
    for i in 0..BLOCK {
        rows[i] = &row(i)[..features];
        blocks[i] = &rows[i].as_chunks::<BLOCK>().0[..whole];
    }
    let mut block = [isa.f32(0.0); BLOCK];
    for at in 0..whole + usize::from(rest > 0) {
        if at < whole {
            for i in 0..BLOCK {
                block[i] = E::load(isa, &blocks[i][at]);
            }
        } else {
            let ends = row_ends(&rows, whole * BLOCK);
            for i in 0..BLOCK {
                block[i] = E::load(isa, &ends[i]);
            }
        }
        each(at * BLOCK, BLOCK.min(features - at * BLOCK), isa.transpose(block));
    }
}

/// Returns each row's elements from index `first` on, padded with zeros.
#[cold]
#[inline(never)]
fn row_ends<E: Element>(rows: &[&[E]; BLOCK], first: usize) -> [[E; BLOCK]; BLOCK] {
    let mut ends = [[E::ZERO; BLOCK]; BLOCK];
    for (end, row) in ends.iter_mut().zip(rows) {
        *end = padded(&row[first..], E::ZERO);
    }
    ends
}

/// Packs values into consecutive panels of sixteen features, `[features / 16][count][16]`, with zeros past the last
/// feature. Non-finite elements are replaced by zeros, so that a masked value with a weight of 0 contributes 0 instead
/// of NaN. `broken` lists the keys with non-finite elements.
#[inline(always)]
pub fn values<'a, I: Isa, E: Element>(
    isa: I,
    rows: impl Fn(usize) -> &'a [E],
    count: usize,
    features: usize,
    panels: &mut [[f32; BLOCK]],
    broken: &mut Vec<usize>,
) {
    broken.clear();
    for i in 0..count {
        let (blocks, rest) = rows(i)[..features].as_chunks::<BLOCK>();
        let mut is_whole = true;
        for (panel, block) in blocks.iter().enumerate() {
            panels[panel * count + i] = finite_or_zero(isa, E::load(isa, block), &mut is_whole);
        }
        if !rest.is_empty() {
            let block = E::load(isa, &padded(rest, E::ZERO));
            panels[blocks.len() * count + i] = finite_or_zero(isa, block, &mut is_whole);
        }
        if !is_whole {
            broken.push(i);
        }
    }
}

/// Returns the numbers, with zeros in place of non-finite ones. Sets `is_whole` to false if a number is not finite.
#[inline(always)]
fn finite_or_zero<I: Isa>(isa: I, values: I::F32, is_whole: &mut bool) -> [f32; BLOCK] {
    let finite = values.abs().lt(isa.f32(f32::INFINITY));
    *is_whole &= !(!finite).any();
    isa.array_f32(I::F32::select(finite, values, isa.f32(0.0)))
}
