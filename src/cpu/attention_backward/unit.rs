//! Gradients of one key head, and of the query heads that share it.

use super::AttentionBackward;
use super::sums::{PLAIN, Powers, SMALLER, Sums, power_of_two};
use super::tile::{Find, Made, Multiply, ROWS, Score, TakeKeys, TakeQueries, Tile};
use crate::cpu::attention::merge::{State, weight};
use crate::cpu::attention::{Attention, KEYS};
use crate::cpu::lanes::GuardCounts;
use crate::cpu::scores::LogitTransform;
use crate::cpu::scratch::{Lendable, Scratch};
use crate::element::Element;
use crate::mask::FullyMasked;
use crate::simd::{BLOCK, Isa, Kernel, allocated};
use std::cell::Cell;
use std::ops::Range;

/// Buffers of a thread.
#[derive(Default)]
pub struct Buffers {
    pub sums: Sums,
    again: Sums,
    rows: Rows,
    made: Made,
}

allocated! {
    Buffers { sums, again, rows, made }
    Rows { states, means }
}

thread_local! {
    pub static BUFFERS: Lendable<Buffers> = const { Cell::new(None) };
}

/// Results of the first pass for each row.
#[derive(Default)]
pub struct Rows {
    pub states: Vec<State>,
    /// For each row, the weighted sum of its products of dy and v. The weights are `e^(logit - max)`, with `max` from
    /// the row's state.
    pub means: Vec<f64>,
}

impl Rows {
    /// Discards the results, and prepares for the rows of `unit`.
    fn start<E: Element>(&mut self, unit: &Unit<'_, E>) {
        self.states.clear();
        self.states.extend(unit.rows.clone().map(|row| State::new(unit.forward().sink(row))));
        self.means.clear();
        self.means.resize(unit.rows.len(), 0.0);
    }

    /// Returns the weighted mean of a row's products of dy and v.
    #[inline(always)]
    pub fn mean(&self, i: usize) -> f64 {
        self.means[i] / self.states[i].sum
    }
}

/// Computes all gradient sums from operands divided by powers of two.
struct AddUp<'s, 'a, E> {
    unit: &'s Unit<'a, E>,
    powers: Powers,
    /// Whether this is the last attempt. If an earlier attempt overflows, the sums are computed again from smaller
    /// operands.
    is_last: bool,
    sums: &'s mut Sums,
    rows: &'s mut Rows,
    made: &'s mut Made,
    scratch: &'s mut Scratch,
}

impl<E: Element> Kernel for AddUp<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let AddUp { unit, powers, is_last, sums, rows, made, scratch } = self;
        let forward = unit.forward();
        let (features, of_values) = unit.features();
        let untyped = Untyped { scores: &forward.scores, start: unit.rows.start, features: (features, of_values) };
        let shapes = [(unit.rows.len(), features), (forward.keys().end, features), (forward.keys().end, of_values)];
        sums.start(shapes, forward.group());
        rows.start(unit);
        let keys = unit.blocks();
        isa.outline(TakeKeys { unit, keys: keys.clone(), powers, made });
        // Under Uniform, the gradients of the values begin with the contribution of the fully masked queries, which are
        // known after the first pass over all queries. Otherwise, the second pass over a tile follows the first.
        let is_uniform = forward.scores.fully_masked == FullyMasked::Uniform;
        let at_once = if is_uniform { unit.rows.len() } else { ROWS };
        for start in (0..unit.rows.len()).step_by(at_once.max(1)) {
            let part = start..(start + at_once).min(unit.rows.len());
            for queries in tiles(part.clone()) {
                isa.outline(TakeQueries { unit, rows: &queries, powers, made });
                for tile in unit.tiles(&keys, &queries) {
                    isa.outline(Score { unit, tile: &tile, made, scratch });
                    isa.outline(Find { untyped, tile: &tile, rows, made, scratch });
                }
            }
            if is_uniform {
                unit.means_of_all(powers, rows, sums);
            }
            for queries in tiles(part) {
                if is_uniform {
                    isa.outline(TakeQueries { unit, rows: &queries, powers, made });
                }
                let keeps_scores = unit.keeps_scores(&queries);
                for tile in unit.tiles(&keys, &queries) {
                    if !keeps_scores {
                        isa.outline(Score { unit, tile: &tile, made, scratch });
                    }
                    isa.outline(Multiply { untyped, tile: &tile, rows, sums, made, scratch });
                }
            }
        }
        unit.sinks(isa, rows, sums);
        sums.scale(forward.scores.scale, powers, is_last);
    }
}

/// Computes the gradients of a key head into `buffers.sums`, not rounded yet.
#[inline(always)]
pub fn gradients<I: Isa, E: Element>(
    isa: I,
    call: &AttentionBackward<'_, E>,
    unit: usize,
    buffers: &mut Buffers,
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) {
    let Buffers { sums, again, rows, made } = buffers;
    let unit = Unit::new(call, unit);
    let smaller: &[Powers] = if E::IS_F64 { &SMALLER } else { &[] };
    let is_last = smaller.is_empty();
    isa.outline(AddUp { unit: &unit, powers: PLAIN, is_last, sums, rows, made, scratch });
    for (i, &powers) in smaller.iter().enumerate() {
        if !sums.parts().into_iter().flatten().any(|sum| sum.is_nan()) {
            break;
        }
        let is_last = i + 1 == smaller.len();
        isa.outline(AddUp { unit: &unit, powers, is_last, sums: again, rows, made, scratch });
        for (sums, again) in sums.parts().into_iter().zip(again.parts()) {
            for (sum, again) in sums.iter_mut().zip(again) {
                *sum = if sum.is_nan() { *again } else { *sum };
            }
        }
    }
    unit.count(rows, guards);
}

/// Largest number of keys for which the scores of a tile, and its products of dy and v, are kept for the second pass.
/// Together they take up to 16 MiB.
const MOST_KEYS: usize = 16_384;

/// Cuts a range of queries into tiles of [`ROWS`] queries.
fn tiles(queries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = queries.end;
    queries.step_by(ROWS).map(move |start| start..(start + ROWS).min(end))
}

/// Part of a [`Unit`] that does not depend on the storage type. Kernels that need only this part are compiled once.
#[derive(Clone, Copy)]
pub struct Untyped<'a> {
    pub scores: &'a LogitTransform<'a>,
    /// Index of the unit's first row.
    pub start: usize,
    /// Number of features of the keys, and of the values.
    pub features: (usize, usize),
}

/// A key head, with the rows that share it.
pub struct Unit<'a, E> {
    call: &'a AttentionBackward<'a, E>,
    pub batch: usize,
    pub head: usize,
    pub rows: Range<usize>,
}

impl<'a, E: Element> Unit<'a, E> {
    fn new(call: &'a AttentionBackward<'a, E>, unit: usize) -> Self {
        let (heads, rows) = (call.forward.k.shape()[1], call.forward.rows_a_head());
        Unit { call, batch: unit / heads, head: unit % heads, rows: unit * rows..(unit + 1) * rows }
    }

    pub fn forward(&self) -> &'a Attention<'a, E> {
        &self.call.forward
    }

    /// Returns the number of features of the keys, and of the values.
    pub fn features(&self) -> (usize, usize) {
        (self.forward().k.shape()[3], self.forward().v.shape()[3])
    }

    /// Returns the gradient of a row's result.
    pub fn grad(&self, row: usize) -> &'a [E] {
        let [batch, head, position] = self.forward().place(row);
        self.call.dy.row(batch, head, position)
    }

    /// Returns a range that contains all keys that any of the rows sees.
    fn seen(&self, rows: Range<usize>) -> Range<usize> {
        let bounds = rows.map(|row| self.forward().bounds(row)).filter(|bounds| !bounds.is_empty());
        bounds.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// Returns the keys of the blocks that any query sees. The first block begins at a multiple of [`KEYS`].
    fn blocks(&self) -> Range<usize> {
        let seen = self.seen(self.rows.clone());
        let end = seen.end.div_ceil(KEYS).saturating_mul(KEYS).min(self.forward().keys().end);
        seen.start / KEYS * KEYS..end
    }

    /// Returns the keys that the blocks of these queries cover, from the first key of the first block to the last key
    /// that any of the queries sees.
    fn blocks_of(&self, queries: &Range<usize>) -> Range<usize> {
        let seen = self.seen(self.rows.start + queries.start..self.rows.start + queries.end);
        seen.start / KEYS * KEYS..seen.end
    }

    /// Returns whether the second pass over a tile finds the scores of the first.
    fn keeps_scores(&self, queries: &Range<usize>) -> bool {
        self.forward().scores.fully_masked != FullyMasked::Uniform && self.blocks_of(queries).len() <= MOST_KEYS
    }

    /// Returns the tiles of these queries: one for each block of `keys` that any of the queries sees. If the scores are
    /// kept, each tile has its own memory for them.
    #[inline(always)]
    fn tiles(&self, keys: &Range<usize>, queries: &Range<usize>) -> impl Iterator<Item = Tile> {
        let (seen, keeps_scores) = (self.blocks_of(queries), self.keeps_scores(queries));
        let (keys, queries) = (keys.clone(), queries.clone());
        seen.clone().step_by(KEYS).enumerate().map(move |(i, first)| Tile {
            rows: queries.clone(),
            first,
            at: first - keys.start,
            slot: if keeps_scores { i } else { 0 },
            count: KEYS.min(keys.end - first),
            reach: KEYS.min(seen.end - first),
        })
    }

    /// Adds up the gradients of the sinks. A sink is an extra logit with a value vector of zeros.
    #[inline(always)]
    fn sinks<I: Isa>(&self, isa: I, rows: &Rows, sums: &mut Sums) {
        let queries = self.forward().q.shape()[2];
        for (i, state) in rows.states.iter().enumerate() {
            let sink = self.forward().sink(self.rows.start + i);
            if sink == f64::NEG_INFINITY {
                continue;
            }
            let share = if state.spoilt().is_some() { f64::NAN } else { weight(isa, sink - state.max) / state.sum };
            let sum = &mut sums.dsinks[i / queries];
            *sum = (-share).mul_add(rows.mean(i), *sum);
        }
    }

    /// Sets the gradients of the values to the contribution of the fully masked queries. The result of such a query is
    /// the mean of all values.
    fn means_of_all(&self, powers: Powers, rows: &Rows, sums: &mut Sums) {
        let forward = self.forward();
        if forward.keys().end == 0 {
            return;
        }
        let (share, (_, width)) = (1.0 / forward.keys().end as f64, self.features());
        let mut sum = vec![0.0; width];
        for (i, _) in rows.states.iter().enumerate().filter(|(_, state)| state.is_empty()) {
            let grad = self.grad(self.rows.start + i);
            let whole = grad.iter().all(|dy| dy.widen().is_finite());
            for (sum, dy) in sum.iter_mut().zip(grad) {
                let dy = if whole { dy.widen() * power_of_two(-powers.grads) } else { f64::NAN };
                *sum = dy.mul_add(share, *sum);
            }
        }
        let blocks = width.div_ceil(BLOCK);
        for dv in sums.all[2].chunks_exact_mut(blocks.max(1)) {
            dv.as_flattened_mut()[..width].copy_from_slice(&sum);
        }
    }

    /// Counts the key head's rows, its fully masked rows, and its non-finite rows.
    fn count(&self, rows: &Rows, guards: &mut GuardCounts) {
        guards.counts.rows += self.rows.len() as u64;
        for (i, state) in rows.states.iter().enumerate() {
            if state.is_empty() {
                guards.counts.fully_masked += 1;
                if self.forward().scores.fully_masked == FullyMasked::Error {
                    guards.first_refused = guards.first_refused.or(Some(self.rows.start + i));
                }
                continue;
            }
            let found = state.spoilt().unwrap_or(rows.mean(i));
            if !found.is_finite() {
                guards.counts.add_broken(found);
            }
        }
    }
}
