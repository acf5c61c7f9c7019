//! The gradients of one head of keys, and of the heads of queries that share it.

use super::AttentionBackward;
use super::sums::{PLAIN, Powers, SMALLER, Sums, power_of_two};
use super::tile::{Made, ROWS, Tile};
use crate::cpu::attention::merge::{State, weight};
use crate::cpu::attention::{Attention, KEYS};
use crate::cpu::lanes::Met;
use crate::cpu::scratch::Scratch;
use crate::element::{DType, Element};
use crate::mask::FullyMasked;
use crate::simd::{Isa, Kernel, LANES};
use std::ops::Range;

/// A part of the work as a function of its own: it is long, and inlined more than once.
pub struct Apart<F>(pub F);

impl<F: FnOnce()> Kernel for Apart<F> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        (self.0)();
    }
}

/// What a thread works in.
#[derive(Default)]
pub struct Buffers {
    pub sums: Sums,
    again: Sums,
    rows: Rows,
    made: Made,
}

/// What the first pass finds of each row.
#[derive(Default)]
pub struct Rows {
    pub states: Vec<State>,
    /// The sum of dy v, weighted, that belongs to the state.
    pub means: Vec<f64>,
}

impl Rows {
    /// The mean of a row's dy v.
    #[inline(always)]
    pub fn mean(&self, i: usize) -> f64 {
        self.means[i] / self.states[i].sum
    }
}

/// The gradients of a unit: `buffers.sums`, not rounded yet.
#[inline(always)]
pub fn gradients<I: Isa, E: Element>(
    isa: I,
    call: &AttentionBackward<'_, E>,
    unit: usize,
    buffers: &mut Buffers,
    scratch: &mut Scratch,
    met: &mut Met,
) {
    let Buffers { sums, again, rows, made } = buffers;
    let unit = Unit::new(call, unit);
    unit.add_up(isa, PLAIN, sums, rows, made, scratch);
    for powers in SMALLER {
        if E::DTYPE != DType::F64 || sums.parts().into_iter().flatten().all(|sum| sum.is_finite()) {
            break;
        }
        unit.add_up(isa, powers, again, rows, made, scratch);
        for (sums, again) in sums.parts().into_iter().zip(again.parts()) {
            for (sum, again) in sums.iter_mut().zip(again) {
                *sum = if sum.is_finite() { *sum } else { *again };
            }
        }
    }
    unit.count(rows, met);
}

/// A head of keys.
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

    /// The features of keys and of values.
    pub fn features(&self) -> (usize, usize) {
        (self.forward().k.shape()[3], self.forward().v.shape()[3])
    }

    /// The gradient of a row's result.
    pub fn grad(&self, row: usize) -> &'a [E] {
        let [batch, head, position] = self.forward().place(row);
        self.call.dy.row(batch, head, position)
    }

    /// All sums, of operands divided by powers of two.
    fn add_up<I: Isa>(
        &self,
        isa: I,
        powers: Powers,
        sums: &mut Sums,
        rows: &mut Rows,
        made: &mut Made,
        scratch: &mut Scratch,
    ) {
        isa.outline(Apart(
            #[inline(always)]
            || self.add_up_inline(isa, powers, sums, rows, made, scratch),
        ));
    }

    #[inline(always)]
    fn add_up_inline<I: Isa>(
        &self,
        isa: I,
        powers: Powers,
        sums: &mut Sums,
        rows: &mut Rows,
        made: &mut Made,
        scratch: &mut Scratch,
    ) {
        let forward = self.forward();
        let (features, of_values) = self.features();
        let keys = forward.keys().end;
        sums.start([(self.rows.len(), features), (keys, features), (keys, of_values)], forward.group());
        rows.states.clear();
        rows.states.extend(self.rows.clone().map(|row| State::new(forward.sink(row))));
        rows.means.clear();
        rows.means.resize(self.rows.len(), 0.0);
        self.each_tile(
            isa,
            powers,
            made,
            scratch,
            #[inline(always)]
            |tile, made, scratch| {
                isa.outline(Apart(
                    #[inline(always)]
                    || self.find(isa, tile, rows, made, scratch),
                ));
            },
        );
        self.sinks(isa, rows, sums);
        self.means_of_all(powers, rows, sums);
        self.each_tile(
            isa,
            powers,
            made,
            scratch,
            #[inline(always)]
            |tile, made, scratch| {
                isa.outline(Apart(
                    #[inline(always)]
                    || self.multiply(isa, tile, rows, sums, made, scratch),
                ));
            },
        );
        sums.scale(forward.scores.scale, powers);
    }

    /// Calls `f` with the scores and dy v of all keys that are seen, in their order, and for each block of them with the
    /// queries in theirs.
    #[inline(always)]
    fn each_tile<I: Isa>(
        &self,
        isa: I,
        powers: Powers,
        made: &mut Made,
        scratch: &mut Scratch,
        mut f: impl FnMut(&Tile, &mut Made, &mut Scratch),
    ) {
        let forward = self.forward();
        let seen = |rows: Range<usize>| {
            let bounds = rows.map(|row| forward.bounds(row)).filter(|bounds| !bounds.is_empty());
            bounds.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
        };
        let all = seen(self.rows.clone());
        for first in (all.start / KEYS * KEYS..all.end).step_by(KEYS) {
            let count = KEYS.min(forward.keys().end - first);
            self.take_keys(isa, first, count, powers, made);
            for start in (0..self.rows.len()).step_by(ROWS) {
                let rows = start..(start + ROWS).min(self.rows.len());
                let seen = seen(self.rows.start + rows.start..self.rows.start + rows.end);
                if seen.start < first + count && seen.end > first {
                    let tile = Tile { rows, first, count, reach: (seen.end - first).min(count) };
                    self.take_queries(isa, &tile, powers, made);
                    self.score(isa, &tile, made, scratch);
                    f(&tile, made, scratch);
                }
            }
        }
    }

    /// The gradients of the sinks: a logit whose value is zero.
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

    /// The gradients of values by queries that have the mean of all.
    fn means_of_all(&self, powers: Powers, rows: &Rows, sums: &mut Sums) {
        let forward = self.forward();
        if forward.scores.fully_masked != FullyMasked::Uniform || forward.keys().end == 0 {
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
        let blocks = width.div_ceil(LANES);
        for dv in sums.all[2].chunks_exact_mut(blocks.max(1)) {
            dv.as_flattened_mut()[..width].copy_from_slice(&sum);
        }
    }

    /// What the rows were.
    fn count(&self, rows: &Rows, met: &mut Met) {
        met.counts.rows += self.rows.len() as u64;
        for (i, state) in rows.states.iter().enumerate() {
            if state.is_empty() {
                met.counts.wholly_masked += 1;
                if self.forward().scores.fully_masked == FullyMasked::Error {
                    met.first_refused = met.first_refused.or(Some(self.rows.start + i));
                }
                continue;
            }
            let found = state.spoilt().unwrap_or(rows.mean(i));
            if !found.is_finite() {
                met.counts.add_broken(found);
            }
        }
    }
}
