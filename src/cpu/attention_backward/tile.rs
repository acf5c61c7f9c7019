//! Processes a tile of queries with a block of keys: the first pass updates the row statistics, the second adds to the
//! gradients.

use super::panels::{across, along, widen};
use super::product::Product;
use super::sums::{Powers, Sums, power_of_two};
use super::unit::{Rows, Unit, Untyped};
use crate::cpu::attention::merge::End;
use crate::cpu::attention::{KEYS, wide};
use crate::cpu::exp_sum::ExpSum;
use crate::cpu::scores::{Exps, Live, Logits, Row, exp_f64};
use crate::cpu::scores_backward::derivatives;
use crate::cpu::scratch::{Scratch, grown, scratch_slice};
use crate::element::Element;
use crate::heads::Heads;
use crate::math::sum::sum_o;
use crate::simd::{BLOCK, Float, Isa, Kernel, Select, Span, allocated, load_wide};
use std::ops::Range;

/// Number of queries processed at a time; a multiple of the chain length.
pub const ROWS: usize = 64;
/// Number of blocks in a row of scores. A block has sixteen scores.
const BLOCKS: usize = KEYS / BLOCK;

/// Packed operands of all keys and of a tile of queries, and the matrices computed from them.
#[derive(Default)]
pub struct Made {
    /// Keys or values of a block as rows, before they are packed into panels.
    widened: Vec<f64>,
    keys_across: Vec<[f64; BLOCK]>,
    keys_along: Vec<[f64; BLOCK]>,
    values_across: Vec<[f64; BLOCK]>,
    queries: Vec<f64>,
    queries_along: Vec<[f64; BLOCK]>,
    grads: Vec<f64>,
    grads_along: Vec<[f64; BLOCK]>,
    /// Scores. For each slot, [`KEYS`] numbers for each query.
    scores: Vec<[f64; BLOCK]>,
    /// Products of dy and v, later replaced by the gradients of the scores; laid out like `scores`.
    derivatives: Vec<[f64; BLOCK]>,
    /// Weights of the values of one block: [`KEYS`] numbers for each query.
    weights: Vec<[f64; BLOCK]>,
    /// Transpose of `derivatives` or `weights`: [`ROWS`] numbers for each key.
    turned: Vec<f64>,
}

allocated! {
    Made {
        widened,
        keys_across,
        keys_along,
        values_across,
        queries,
        queries_along,
        grads,
        grads_along,
        scores,
        derivatives,
        weights,
        turned
    }
}

/// Queries that share a key head, and a block of keys visible to some of them.
pub struct Tile {
    /// Indices of the rows. The key head's first row has index 0.
    pub rows: Range<usize>,
    /// First key of the block.
    pub first: usize,
    /// Distance of the first key from the first key that is packed.
    pub at: usize,
    /// Position of the tile's scores among the scores in [`Made`].
    pub slot: usize,
    /// Number of keys in the block.
    pub count: usize,
    /// How many keys of the block are processed. No row of the tile sees a later key of the block.
    pub reach: usize,
}

impl Tile {
    /// Returns the tile's scores or derivatives: [`KEYS`] numbers for each query.
    fn part<'s>(&self, of: &'s [[f64; BLOCK]]) -> &'s [f64] {
        of[self.blocks()].as_flattened()
    }

    fn part_mut<'s>(&self, of: &'s mut [[f64; BLOCK]]) -> &'s mut [f64] {
        of[self.blocks()].as_flattened_mut()
    }

    /// Returns the blocks of sixteen scores in [`Made::scores`].
    fn blocks(&self) -> Range<usize> {
        let len = self.rows.len() * BLOCKS;
        self.slot * len..(self.slot + 1) * len
    }
}

/// Packs keys and values.
pub struct TakeKeys<'s, 'a, E> {
    pub unit: &'s Unit<'a, E>,
    /// Positions of the keys to pack. The range begins at a multiple of [`KEYS`].
    pub keys: Range<usize>,
    pub powers: Powers,
    pub made: &'s mut Made,
}

impl<'a, E: Element> Kernel for TakeKeys<'_, 'a, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let TakeKeys { unit, keys: all, powers, made } = self;
        let (features, of_values) = unit.features();
        let groups = all.len().div_ceil(BLOCK);
        let keys_across = scratch_slice(&mut made.keys_across, groups * features);
        let keys_along = scratch_slice(&mut made.keys_along, features.div_ceil(BLOCK) * all.len());
        let values_across = scratch_slice(&mut made.values_across, groups * of_values);
        for first in all.clone().step_by(KEYS) {
            let (at, count) = (first - all.start, KEYS.min(all.end - first));
            let group = at / BLOCK;
            let of = |rows: Heads<'a, E>| rows.positions(unit.batch, unit.head, first);
            let (k, v) = (of(unit.forward().k), of(unit.forward().v));
            let keys = scratch_slice(&mut made.widened, count * features);
            widen(
                isa,
                #[inline(always)]
                |key| k.row(key),
                features,
                1.0,
                keys,
            );
            let packed = count.div_ceil(BLOCK);
            across(keys, features, &mut keys_across[group * features..][..packed * features]);
            let columns = features.div_ceil(BLOCK);
            along(keys, features, power_of_two(-powers.keys), &mut keys_along[at * columns..][..count * columns]);
            let values = scratch_slice(&mut made.widened, count * of_values);
            widen(
                isa,
                #[inline(always)]
                |key| v.row(key),
                of_values,
                power_of_two(-powers.grads),
                values,
            );
            across(values, of_values, &mut values_across[group * of_values..][..packed * of_values]);
        }
    }
}

/// Packs the queries of a tile, and the gradients of their results.
pub struct TakeQueries<'s, 'a, E> {
    pub unit: &'s Unit<'a, E>,
    pub rows: &'s Range<usize>,
    pub powers: Powers,
    pub made: &'s mut Made,
}

impl<E: Element> Kernel for TakeQueries<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let TakeQueries { unit, rows, powers, made } = self;
        let (features, of_values) = unit.features();
        let (first, count) = (unit.rows.start + rows.start, rows.len());
        let queries = scratch_slice(&mut made.queries, count * features);
        widen(
            isa,
            #[inline(always)]
            |i| unit.forward().query(first + i),
            features,
            1.0,
            queries,
        );
        along(
            queries,
            features,
            power_of_two(-powers.keys),
            scratch_slice(&mut made.queries_along, features.div_ceil(BLOCK) * count),
        );
        let grads = scratch_slice(&mut made.grads, count * of_values);
        widen(
            isa,
            #[inline(always)]
            |i| unit.grad(first + i),
            of_values,
            power_of_two(-powers.grads),
            grads,
        );
        along(grads, of_values, 1.0, scratch_slice(&mut made.grads_along, of_values.div_ceil(BLOCK) * count));
    }
}

/// Computes the scores of a tile, and its products of dy and v.
pub struct Score<'s, 'a, E> {
    pub unit: &'s Unit<'a, E>,
    pub tile: &'s Tile,
    pub made: &'s mut Made,
    pub scratch: &'s mut Scratch,
}

impl<E: Element> Kernel for Score<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Score { unit, tile, made, scratch } = self;
        let (features, of_values) = unit.features();
        let Made { keys_across, values_across, queries, grads, scores, derivatives, .. } = made;
        let products = [
            (&*queries, features, &*keys_across, &mut *scores),
            (&*grads, of_values, &*values_across, &mut *derivatives),
        ];
        for (a, terms, panels, out) in products {
            let out = &mut grown(out, tile.blocks().end)[tile.blocks()];
            out.fill([0.0; BLOCK]);
            let panels = &panels[tile.at / BLOCK * terms..];
            isa.outline(Product {
                a,
                a_stride: terms,
                terms,
                panels,
                panel_len: terms,
                rows: tile.rows.len(),
                out,
                out_stride: BLOCKS,
                columns: tile.reach.div_ceil(BLOCK),
            });
        }
        let forward = unit.forward();
        let scores = tile.part_mut(scores);
        for i in 0..tile.rows.len() {
            let row = unit.rows.start + tile.rows.start + i;
            let bounds = forward.bounds(row);
            let end = tile.first + tile.reach;
            let low = bounds.start.clamp(tile.first, end);
            let high = bounds.end.min(end).max(low);
            let part = i * KEYS + low - tile.first..i * KEYS + high - tile.first;
            let scores = &mut scores[part];
            if !scores.iter().all(|score| score.is_finite()) {
                let query = &queries[i * features..][..features];
                wide::scores(forward, row, low..high, query, &mut scratch.beside.flags, scores);
            }
        }
    }
}

impl Untyped<'_> {
    /// Computes a row's weights and the gradients of its scores. Masked entries are 0. If the row's state, mean or dy
    /// is not finite, the unmasked entries that depend on this value are NaN.
    #[inline(always)]
    fn weigh<I: Isa>(&self, isa: I, tile: &Tile, i: usize, rows: &Rows, made: &mut Made, scratch: &mut Scratch) {
        let scores = &tile.part(&made.scores)[i * KEYS..][..tile.reach];
        let grads = &mut tile.part_mut(&mut made.derivatives)[i * KEYS..][..tile.reach];
        let weights = &mut made.weights.as_flattened_mut()[i * KEYS..][..tile.reach];
        let at = tile.rows.start + i;
        let Scratch { logits: buffers, beside, .. } = scratch;
        let of = self.scores;
        let live = match of.read_part(isa, self.start + at, tile.first, scores, buffers) {
            Row::Masked => {
                grads.fill(0.0);
                weights.fill(0.0);
                return;
            }
            Row::Nan(live) | Row::Infinite(live) | Row::Live(live) => live,
        };
        let (columns, logits) = (live.columns.clone(), logits(&live, scores));
        for row in [&mut *grads, &mut *weights] {
            row[..columns.start].fill(0.0);
            row[columns.end..].fill(0.0);
        }
        let (grads, weights) = (&mut grads[columns.clone()], &mut weights[columns.clone()]);
        let state = rows.states[at];
        let (max, share) = match state.spoilt() {
            Some(_) => (0.0, f64::NAN),
            None => (state.max, 1.0 / state.sum),
        };
        let mean = rows.mean(at);
        // A mean that is not finite turns every gradient of the row into NaN.
        let mean = if mean.is_finite() { mean } else { f64::NAN };
        let of_values = self.features.1;
        let whole = made.grads[i * of_values..][..of_values].iter().all(|dy| dy.is_finite());
        exp_f64(isa, logits, max, weights);
        let (zero, masked) = (isa.f64(0.0), isa.f64(f64::NEG_INFINITY));
        let (share, mean) = (isa.f64(share), isa.f64(mean));
        Span::in_place(&mut *grads).map_with(
            isa,
            [&*weights, logits],
            #[inline(always)]
            |_, grad: I::F64, [weight, logit]| {
                let derivative = isa.load_f64(weight) * share * (grad - mean);
                I::F64::select(isa.load_f64(logit).eq(masked), zero, derivative)
            },
        );
        if let Some(derivatives) = derivatives(isa, of, 1.0, &scores[columns], &mut beside.f64s) {
            Span::in_place(grads).map_with(
                isa,
                [derivatives, logits],
                #[inline(always)]
                |_, grad: I::F64, [derivative, logit]| {
                    // Masked entries are set to 0 here too, because the derivative is NaN if the score is -inf and the
                    // scale is 0.
                    let derivative = grad * isa.load_f64(derivative);
                    I::F64::select(isa.load_f64(logit).eq(masked), zero, derivative)
                },
            );
        }
        let share = if whole { share } else { isa.f64(f64::NAN) };
        Span::in_place(weights).map_with(
            isa,
            [logits],
            #[inline(always)]
            |_, weight: I::F64, [logit]| I::F64::select(isa.load_f64(logit).eq(masked), zero, weight * share),
        );
    }
}

/// Merges a block of keys into the states of a tile's rows.
pub struct Find<'s> {
    pub untyped: Untyped<'s>,
    pub tile: &'s Tile,
    pub rows: &'s mut Rows,
    pub made: &'s mut Made,
    pub scratch: &'s mut Scratch,
}

impl Kernel for Find<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Find { untyped, tile, rows, made, scratch } = self;
        let (scores, grads) = (tile.part(&made.scores), tile.part(&made.derivatives));
        for (i, at) in tile.rows.clone().enumerate() {
            let state = &mut rows.states[at];
            let row = untyped.start + at;
            let (scores, grads) = (&scores[i * KEYS..][..tile.reach], &grads[i * KEYS..][..tile.reach]);
            let live = match untyped.scores.read_part(isa, row, tile.first, scores, &mut scratch.logits) {
                Row::Nan(_) => {
                    state.spoil(f64::NAN);
                    continue;
                }
                Row::Infinite(_) => {
                    state.spoil(f64::INFINITY);
                    continue;
                }
                Row::Masked => continue,
                Row::Live(live) => live,
            };
            let columns = live.columns.clone();
            let exps = live.exps(isa, &scores[columns.clone()], KEYS, false, &mut scratch.made);
            let Exps::F64 { values } = exps else {
                unreachable!("the exponentials of f64 logits must be stored as f64")
            };
            let (sum, rest) = ExpSum::wide(isa, values).value::<f64>(KEYS);
            let (logits, grads) = (logits(&live, scores), &grads[columns]);
            let (zero, masked) = (isa.f64(0.0), isa.f64(f64::NEG_INFINITY));
            let mean = sum_o(
                isa,
                values.len(),
                #[inline(always)]
                |i| {
                    let term = load_wide(isa, values, i, 0.0) * load_wide(isa, grads, i, 0.0);
                    let logit = load_wide(isa, logits, i, f64::NEG_INFINITY);
                    I::F64::select(logit.eq(masked), zero, term)
                },
            );
            let end = End { max: live.max, sum: sum + rest };
            state.merge(isa, std::slice::from_mut(&mut rows.means[at]), end, &[mean]);
        }
    }
}

/// Adds a tile's contribution to the gradients of q, k and v.
pub struct Multiply<'s> {
    pub untyped: Untyped<'s>,
    pub tile: &'s Tile,
    pub rows: &'s Rows,
    pub sums: &'s mut Sums,
    pub made: &'s mut Made,
    pub scratch: &'s mut Scratch,
}

impl Kernel for Multiply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Multiply { untyped, tile, rows, sums, made, scratch } = self;
        let (features, of_values) = untyped.features;
        let (count, reach) = (tile.rows.len(), tile.reach);
        scratch_slice(&mut made.weights, count * BLOCKS);
        for i in 0..count {
            untyped.weigh(isa, tile, i, rows, made, scratch);
        }
        let Made { keys_along, queries_along, grads_along, derivatives, weights, turned, .. } = made;
        let (weights, derivatives) = (weights.as_flattened(), tile.part(derivatives));
        let turned = scratch_slice(turned, KEYS * ROWS);
        let [dq, dk, dv] = &mut sums.all;
        let columns = features.div_ceil(BLOCK);
        isa.outline(Product {
            a: derivatives,
            a_stride: KEYS,
            terms: reach,
            panels: &keys_along[tile.at * columns..],
            panel_len: tile.count,
            rows: count,
            out: &mut dq[tile.rows.start * columns..],
            out_stride: columns,
            columns,
        });
        for (from, panels, width, out) in
            [(derivatives, queries_along, features, dk), (weights, grads_along, of_values, dv)]
        {
            for (i, row) in from.chunks_exact(KEYS).take(count).enumerate() {
                for (key, x) in row[..reach].iter().enumerate() {
                    turned[key * ROWS + i] = *x;
                }
            }
            let columns = width.div_ceil(BLOCK);
            isa.outline(Product {
                a: turned,
                a_stride: ROWS,
                terms: count,
                panels,
                panel_len: count,
                rows: reach,
                out: &mut out[tile.first * columns..],
                out_stride: columns,
                columns,
            });
        }
    }
}

#[inline(always)]
fn logits<'s>(live: &Live<'s>, scores: &'s [f64]) -> &'s [f64] {
    match live.logits {
        Logits::F64(logits) => logits,
        Logits::Direct | Logits::F32(_) => &scores[live.columns.clone()],
    }
}
