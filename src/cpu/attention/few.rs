//! Products of a few queries with a block of keys, and of their weights with its values, from where these lie: nothing
//! is packed that would be read once or twice only. The same chains as in `product`.

use super::pack::sixteen_keys;
use super::{CHAIN, KEYS};
use crate::element::Element;
use crate::simd::{Ahead, Float, Isa, LANES, padded};

/// Queries that are few.
pub const FEW: usize = 4;

/// The products of the queries, row by row, with so many keys, [`KEYS`] of room for each row. Behind the last key is
/// anything.
#[inline(always)]
pub fn scores<'a, I: Isa, E: Element>(
    isa: I,
    queries: &[f32],
    (key, value): (impl Fn(usize) -> &'a [E], impl Fn(usize) -> &'a [E]),
    (count, features): (usize, usize),
    out: &mut [[f32; LANES]],
) {
    // Values are read next.
    let after = |i| Some(value(i));
    if out.len() == KEYS / LANES {
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
    out: &mut [[f32; LANES]],
) {
    const BLOCKS: usize = KEYS / LANES;
    let rows = out.len() / BLOCKS;
    for panel in 0..count.div_ceil(LANES) {
        let mut asked = panel * LANES;
        let mut sums = [isa.f32(0.0); R];
        let mut totals = sums;
        sixteen_keys(
            isa,
            |i| key((panel * LANES + i).min(count - 1)),
            features,
            #[inline(always)]
            |first, some, keys| {
                // Not all at once: only so much can be on its way.
                let part = panel * LANES + LANES * (first + some) / features;
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
                let mut parts = [[0.0; LANES]; R];
                for r in 0..R {
                    // Where there are fewer rows, the last of them stands for the others too.
                    parts[r] = padded_part(&queries[r.min(rows - 1) * features..][..features], first);
                }
                for i in 0..LANES {
                    if i < some {
                        for r in 0..R {
                            sums[r] = isa.f32(parts[r][i]).mul_add(keys[i], sums[r]);
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

/// Asks for a row that is read after this block: what is read in turns, hardware does not foresee.
#[inline(always)]
fn ask<E: Element>(row: Option<&[E]>) {
    if let Some(row) = row {
        let ahead = Ahead::of(row, 0);
        for block in 0..row.len().div_ceil(LANES) {
            ahead.block_for_later(block);
        }
    }
}

/// Sixteen from there on, or what there is.
#[inline(always)]
fn padded_part(row: &[f32], first: usize) -> [f32; LANES] {
    let row = &row[first..];
    match row.first_chunk() {
        Some(part) => *part,
        None => padded(row, 0.0),
    }
}

/// The sums of so many values, weighted, a row of [`KEYS`] weights for each row of sums.
#[inline(always)]
pub fn sums<'a, I: Isa, E: Element>(
    isa: I,
    weights: &[f32],
    (value, after): (impl Fn(usize) -> &'a [E], impl Fn(usize) -> Option<&'a [E]>),
    (count, features): (usize, usize),
    out: &mut [[f32; LANES]],
) {
    /// Blocks of features that are summed at a time.
    const WIDE: usize = 4;
    let columns = features.div_ceil(LANES);
    for (row, (weights, out)) in weights.chunks_exact(KEYS).zip(out.chunks_exact_mut(columns.max(1))).enumerate() {
        let weights = &weights[..count];
        let whole = features / LANES;
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
                    let rest = E::load(isa, &padded(&value[whole * LANES..features], E::ZERO));
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
    out: &mut [[f32; LANES]],
) {
    let mut totals = [isa.f32(0.0); C];
    for (chain, weights) in weights.chunks(CHAIN).enumerate() {
        let mut sums = [isa.f32(0.0); C];
        for (i, &weight) in weights.iter().enumerate() {
            let i = chain * CHAIN + i;
            ask(after(i));
            let (blocks, _) = value(i)[column * LANES..][..C * LANES].as_chunks::<LANES>();
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
