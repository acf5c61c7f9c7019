//! Attention of a few queries: products of the queries with the keys of a block, and weighted sums of the block's
//! values. Keys and values are read in place, because packing is not worthwhile for data that is read only once or
//! twice. Sums are cut into the same chains of multiply-adds as in `product`.

use super::pack::sixteen_keys;
use super::{CHAIN, KEYS};
use crate::element::Element;
use crate::simd::{BLOCK, Float, Isa, PrefetchRow, padded};

/// Largest number of queries that this module handles.
pub const FEW: usize = 4;

/// Computes the products of the queries with `count` keys. `out` has [`KEYS`] products for each query. Products past
/// the last key are unspecified.
#[inline(always)]
pub fn scores<'a, I: Isa, E: Element>(
    isa: I,
    queries: &[f32],
    (key, value): (impl Fn(usize) -> &'a [E], impl Fn(usize) -> &'a [E]),
    (count, features): (usize, usize),
    out: &mut [[f32; BLOCK]],
) {
    // Prefetches the values, which are read next.
    let after = |i| Some(value(i));
    if out.len() == KEYS / BLOCK {
        scores_of::<I, E, 1>(isa, queries, (key, after), (count, features), out);
    } else {
        scores_of::<I, E, FEW>(isa, queries, (key, after), (count, features), out);
    }
}

#[inline(always)]
fn scores_of<'a, I: Isa, E: Element, const R: usize>(
    isa: I,
    queries: &[f32],
    (key, after): (impl Fn(usize) -> &'a [E], impl Fn(usize) -> Option<&'a [E]>),
    (count, features): (usize, usize),
    out: &mut [[f32; BLOCK]],
) {
    const BLOCKS: usize = KEYS / BLOCK;
    let rows = out.len() / BLOCKS;
    // If there are fewer than `R` rows, the last row is repeated.
    let mut parts: [_; R] = [queries[..features].as_chunks::<BLOCK>(); R];
    let mut ends = [[0.0; BLOCK]; R];
    for r in 0..R {
        parts[r] = queries[r.min(rows - 1) * features..][..features].as_chunks::<BLOCK>();
        if !parts[r].1.is_empty() {
            ends[r] = padded(parts[r].1, 0.0);
        }
    }
    for panel in 0..count.div_ceil(BLOCK) {
        let mut asked = panel * BLOCK;
        let mut sums = [isa.f32(0.0); R];
        let mut totals = sums;
        sixteen_keys(
            isa,
            |i| key((panel * BLOCK + i).min(count - 1)),
            features,
            #[inline(always)]
            |first, some, keys| {
                // Spreads the prefetches over the loop, because only a limited number of loads can be in flight.
                let part = panel * BLOCK + BLOCK * (first + some) / features;
                while asked < part.min(count) {
                    ask(after(asked));
                    asked += 1;
                }
                if first > 0 && first.is_multiple_of(CHAIN) {
                    for r in 0..R {
                        totals[r] = if first == CHAIN { sums[r] } else { totals[r] + sums[r] };
                        sums[r] = isa.f32(0.0);
                    }
                }
                let mut part = ends.each_ref();
                for r in 0..R {
                    part[r] = parts[r].0.get(first / BLOCK).unwrap_or(&ends[r]);
                }
                for i in 0..BLOCK {
                    if i < some {
                        for r in 0..R {
                            sums[r] = isa.f32(part[r][i]).mul_add(keys[i], sums[r]);
                        }
                    }
                }
            },
        );
        for r in 0..R.min(rows) {
            let sum = if features <= CHAIN { sums[r] } else { totals[r] + sums[r] };
            out[r * BLOCKS + panel] = isa.array_f32(sum);
        }
    }
}

/// Prefetches a row that is read after this block. Hardware prefetchers do not predict the alternation of keys and
/// values.
#[inline(always)]
fn ask<E: Element>(row: Option<&[E]>) {
    if let Some(row) = row {
        let ahead = PrefetchRow::of(row, 0);
        for block in 0..row.len().div_ceil(BLOCK) {
            ahead.block_for_later(block);
        }
    }
}

/// Computes the weighted sum of `count` value vectors for each query. `weights` and `out` have one row for each query.
/// A row of `weights` has [`KEYS`] numbers.
#[inline(always)]
pub fn sums<'a, I: Isa, E: Element>(
    isa: I,
    weights: &[f32],
    (value, after): (impl Fn(usize) -> &'a [E], impl Fn(usize) -> Option<&'a [E]>),
    (count, features): (usize, usize),
    out: &mut [[f32; BLOCK]],
) {
    /// Number of blocks of sixteen features that are summed at a time.
    const WIDE: usize = 4;
    let columns = features.div_ceil(BLOCK);
    for (row, (weights, out)) in weights.chunks_exact(KEYS).zip(out.chunks_exact_mut(columns.max(1))).enumerate() {
        let weights = &weights[..count];
        let whole = features / BLOCK;
        let wide = whole - whole % WIDE;
        for column in (0..wide).step_by(WIDE) {
            let after = |i| if row + column == 0 { after(i) } else { None };
            sums_of::<I, E, WIDE>(isa, weights, (&value, after), column, out);
        }
        for column in wide..whole {
            let after = |i| if row + column == 0 { after(i) } else { None };
            sums_of::<I, E, 1>(isa, weights, (&value, after), column, out);
        }
        if whole < columns {
            let mut total = isa.f32(0.0);
            for (chain, weights) in weights.chunks(CHAIN).enumerate() {
                let mut sum = isa.f32(0.0);
                for (i, &weight) in weights.iter().enumerate() {
                    let value = value(chain * CHAIN + i);
                    let rest = E::load(isa, &padded(&value[whole * BLOCK..features], E::ZERO));
                    sum = isa.f32(weight).mul_add(rest, sum);
                }
                total = if chain == 0 { sum } else { total + sum };
            }
            out[whole] = isa.array_f32(total);
        }
    }
}

#[inline(always)]
fn sums_of<'a, I: Isa, E: Element, const C: usize>(
    isa: I,
    weights: &[f32],
    (value, after): (impl Fn(usize) -> &'a [E], impl Fn(usize) -> Option<&'a [E]>),
    column: usize,
    out: &mut [[f32; BLOCK]],
) {
    let mut totals = [isa.f32(0.0); C];
    for (chain, weights) in weights.chunks(CHAIN).enumerate() {
        let mut sums = [isa.f32(0.0); C];
        for (i, &weight) in weights.iter().enumerate() {
            let i = chain * CHAIN + i;
            ask(after(i));
            let (blocks, _) = value(i)[column * BLOCK..][..C * BLOCK].as_chunks::<BLOCK>();
            let weight = isa.f32(weight);
            for c in 0..C {
                sums[c] = weight.mul_add(E::load(isa, &blocks[c]), sums[c]);
            }
        }
        for c in 0..C {
            totals[c] = if chain == 0 { sums[c] } else { totals[c] + sums[c] };
        }
    }
    for c in 0..C {
        out[column + c] = isa.array_f32(totals[c]);
    }
}
