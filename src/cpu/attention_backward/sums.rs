//! The sums that are the gradients of one head of keys, and of the heads of queries that share it.

use super::AttentionBackward;
use super::panels::{across, along, widen};
use super::product::Product;
use crate::cpu::attention::merge::{End, State, weight};
use crate::cpu::attention::{Attention, KEYS, wide};
use crate::cpu::lanes::Met;
use crate::cpu::scores::{Exps, Live, Logits, Row, exp_f64, sum_f64};
use crate::cpu::scores_backward::slopes;
use crate::cpu::scratch::{Scratch, room};
use crate::element::{DType, Element};
use crate::mask::FullyMasked;
use crate::math::sum::sum_o;
use crate::simd::{Float, Isa, Kernel, LANES, Select, Span, block};
use std::ops::Range;

/// Queries of a chain. Part of the result of k and v.
const ROWS: usize = 64;
/// Blocks of sixteen in a row of scores.
const BLOCKS: usize = KEYS / LANES;
/// Operands of f64 are multiplied with this where a product of three, or a sum of as many as there can be, leaves the
/// range.
const SMALL: f64 = f64::from_bits((1023 - SMALL_POWER as u64) << 52);
const SMALL_POWER: i32 = 700;

/// A part of the work as a function of its own: it is long, and inlined more than once.
struct Apart<F>(F);

impl<F: FnOnce()> Kernel for Apart<F> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        (self.0)();
    }
}

/// Gradients in f64.
#[derive(Default)]
pub struct Sums {
    /// Of q, k and v, each row from a new block on.
    pub all: [Vec<[f64; LANES]>; 3],
    /// Of the sinks of this batch.
    pub dsinks: Vec<f64>,
}

#[derive(Default)]
pub struct Buffers {
    pub sums: Sums,
    again: Sums,
    rows: Rows,
    made: Made,
}

/// What the first pass finds of each row.
#[derive(Default)]
struct Rows {
    states: Vec<State>,
    /// The sum of dy v, weighted, that belongs to the state.
    means: Vec<f64>,
}

impl Rows {
    /// The mean of a row's dy v.
    #[inline(always)]
    fn mean(&self, i: usize) -> f64 {
        self.means[i] / self.states[i].sum
    }
}

/// A block of keys, and of queries what is multiplied with it.
#[derive(Default)]
struct Made {
    /// Keys or values of a block as rows, on their way into panels.
    widened: Vec<f64>,
    keys_across: Vec<[f64; LANES]>,
    keys_along: Vec<[f64; LANES]>,
    values_across: Vec<[f64; LANES]>,
    queries: Vec<f64>,
    queries_along: Vec<[f64; LANES]>,
    grads: Vec<f64>,
    grads_along: Vec<[f64; LANES]>,
    /// A row of [`KEYS`] for each query: scores,
    scores: Vec<[f64; LANES]>,
    /// dy v, and then the gradients of the scores,
    slopes: Vec<[f64; LANES]>,
    /// and what the values weigh.
    weights: Vec<[f64; LANES]>,
    /// Either of the two with a row of [`ROWS`] for each key.
    turned: Vec<f64>,
}

/// The gradients of a unit: `buffers.sums`, not rounded yet.
#[inline(always)]
pub fn of<I: Isa, E: Element>(
    isa: I,
    call: &AttentionBackward<'_, E>,
    unit: usize,
    buffers: &mut Buffers,
    scratch: &mut Scratch,
    met: &mut Met,
) {
    let Buffers { sums, again, rows, made } = buffers;
    let unit = Unit::new(call, unit);
    unit.add_up(isa, 1.0, sums, rows, made, scratch);
    if E::DTYPE == DType::F64 && !sums.parts().into_iter().flatten().all(|sum| sum.is_finite()) {
        unit.add_up(isa, SMALL, again, rows, made, scratch);
        for (sums, again) in sums.parts().into_iter().zip(again.parts()) {
            for (sum, again) in sums.iter_mut().zip(again) {
                *sum = if sum.is_finite() { *sum } else { *again };
            }
        }
    }
    unit.count(rows, met);
}

impl Sums {
    fn start(&mut self, shapes: [(usize, usize); 3], sinks: usize) {
        for (sums, (rows, features)) in self.all.iter_mut().zip(shapes) {
            sums.clear();
            sums.resize(rows * features.div_ceil(LANES), [0.0; LANES]);
        }
        self.dsinks.clear();
        self.dsinks.resize(sinks, 0.0);
    }

    fn parts(&mut self) -> [&mut [f64]; 4] {
        let [dq, dk, dv] = self.all.each_mut().map(|sums| sums.as_flattened_mut());
        [dq, dk, dv, &mut self.dsinks]
    }

    /// Multiplies with the scale, and takes back what operands were multiplied with: `power` of two for each.
    fn scale(&mut self, scale: f64, power: i32) {
        let scales = [(scale, 3), (scale, 3), (1.0, 1), (1.0, 2)];
        for (sums, (scale, operands)) in self.parts().into_iter().zip(scales) {
            for sum in sums {
                let scaled = if power == 0 { *sum * scale } else { times(*sum, scale, operands * power) };
                // Zeros are +0, and NaN is one.
                *sum = if scaled.is_nan() { f64::NAN } else { scaled + 0.0 };
            }
        }
    }
}

/// x y 2^power, which overflows only if the result does.
fn times(x: f64, y: f64, power: i32) -> f64 {
    let ((x, of_x), (y, of_y)) = (parts(x), parts(y));
    let (mut product, mut power) = (x * y, of_x + of_y + power);
    while power != 0 {
        let step = power.clamp(-1000, 1000);
        product *= f64::from_bits(((1023 + step) as u64) << 52);
        power -= step;
    }
    product
}

/// A number from 1 to 2, and its power of two.
fn parts(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, below) = if x.abs() < f64::MIN_POSITIVE { (x * (1u64 << 54) as f64, 54) } else { (x, 0) };
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    (f64::from_bits(x.to_bits() & !(0x7ff << 52) | 1023 << 52), exponent - below)
}

/// A head of keys.
struct Unit<'a, E> {
    call: &'a AttentionBackward<'a, E>,
    batch: usize,
    head: usize,
    rows: Range<usize>,
}

/// Queries of a unit, and the keys of a block that they see.
#[derive(Clone)]
struct Tile {
    /// Counted from the unit's first.
    rows: Range<usize>,
    /// The block's first key.
    first: usize,
    /// The block's keys.
    count: usize,
    /// As many of them as are looked at.
    reach: usize,
}

impl<'a, E: Element> Unit<'a, E> {
    fn new(call: &'a AttentionBackward<'a, E>, unit: usize) -> Self {
        let (heads, rows) = (call.forward.k.shape()[1], call.forward.rows_a_head());
        Unit { call, batch: unit / heads, head: unit % heads, rows: unit * rows..(unit + 1) * rows }
    }

    fn forward(&self) -> &'a Attention<'a, E> {
        &self.call.forward
    }

    /// The features of keys and of values.
    fn features(&self) -> (usize, usize) {
        (self.forward().k.shape()[3], self.forward().v.shape()[3])
    }

    /// The gradient of a row's result.
    fn grad(&self, row: usize) -> &'a [E] {
        let [batch, head, position] = self.forward().place(row);
        self.call.dy.row(batch, head, position)
    }

    /// All sums, of operands times `factor`.
    fn add_up<I: Isa>(
        &self,
        isa: I,
        factor: f64,
        sums: &mut Sums,
        rows: &mut Rows,
        made: &mut Made,
        scratch: &mut Scratch,
    ) {
        isa.outline(Apart(
            #[inline(always)]
            || self.add_up_inline(isa, factor, sums, rows, made, scratch),
        ));
    }

    #[inline(always)]
    fn add_up_inline<I: Isa>(
        &self,
        isa: I,
        factor: f64,
        sums: &mut Sums,
        rows: &mut Rows,
        made: &mut Made,
        scratch: &mut Scratch,
    ) {
        let forward = self.forward();
        let (features, of_values) = self.features();
        let keys = forward.keys();
        sums.start([(self.rows.len(), features), (keys, features), (keys, of_values)], forward.group());
        rows.states.clear();
        rows.states.extend(self.rows.clone().map(|row| State::new(forward.sink(row))));
        rows.means.clear();
        rows.means.resize(self.rows.len(), 0.0);
        self.each_tile(
            isa,
            factor,
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
        self.means_of_all(factor, rows, sums);
        self.each_tile(
            isa,
            factor,
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
        sums.scale(forward.scores.scale, if factor == 1.0 { 0 } else { SMALL_POWER });
    }

    /// Calls `f` with the scores and dy v of all keys that are seen, in their order, and for each block of them with the
    /// queries in theirs.
    #[inline(always)]
    fn each_tile<I: Isa>(
        &self,
        isa: I,
        factor: f64,
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
            let count = KEYS.min(forward.keys() - first);
            self.take_keys(isa, first, count, factor, made);
            for start in (0..self.rows.len()).step_by(ROWS) {
                let rows = start..(start + ROWS).min(self.rows.len());
                let seen = seen(self.rows.start + rows.start..self.rows.start + rows.end);
                if seen.start < first + count && seen.end > first {
                    let tile = Tile { rows, first, count, reach: (seen.end - first).min(count) };
                    self.take_queries(isa, &tile, factor, made);
                    self.score(isa, &tile, made, scratch);
                    f(&tile, made, scratch);
                }
            }
        }
    }

    fn take_keys<I: Isa>(&self, isa: I, first: usize, count: usize, factor: f64, made: &mut Made) {
        isa.outline(Apart(
            #[inline(always)]
            || self.take_keys_inline(isa, first, count, factor, made),
        ));
    }

    #[inline(always)]
    fn take_keys_inline<I: Isa>(&self, isa: I, first: usize, count: usize, factor: f64, made: &mut Made) {
        let (k, v) = (&self.forward().k, &self.forward().v);
        let (features, of_values) = self.features();
        let keys = room(&mut made.widened, count * features);
        widen(
            isa,
            #[inline(always)]
            |key| k.row(self.batch, self.head, first + key),
            features,
            1.0,
            keys,
        );
        across(keys, features, room(&mut made.keys_across, count.div_ceil(LANES) * features));
        along(keys, features, factor, room(&mut made.keys_along, features.div_ceil(LANES) * count));
        let values = room(&mut made.widened, count * of_values);
        widen(
            isa,
            #[inline(always)]
            |key| v.row(self.batch, self.head, first + key),
            of_values,
            factor,
            values,
        );
        across(values, of_values, room(&mut made.values_across, count.div_ceil(LANES) * of_values));
    }

    fn take_queries<I: Isa>(&self, isa: I, tile: &Tile, factor: f64, made: &mut Made) {
        isa.outline(Apart(
            #[inline(always)]
            || self.take_queries_inline(isa, tile, factor, made),
        ));
    }

    #[inline(always)]
    fn take_queries_inline<I: Isa>(&self, isa: I, tile: &Tile, factor: f64, made: &mut Made) {
        let (features, of_values) = self.features();
        let (first, count) = (self.rows.start + tile.rows.start, tile.rows.len());
        let queries = room(&mut made.queries, count * features);
        widen(
            isa,
            #[inline(always)]
            |i| self.forward().query(first + i),
            features,
            1.0,
            queries,
        );
        along(queries, features, factor, room(&mut made.queries_along, features.div_ceil(LANES) * count));
        let grads = room(&mut made.grads, count * of_values);
        widen(
            isa,
            #[inline(always)]
            |i| self.grad(first + i),
            of_values,
            factor,
            grads,
        );
        along(grads, of_values, 1.0, room(&mut made.grads_along, of_values.div_ceil(LANES) * count));
    }

    /// The scores of a tile and its dy v.
    #[inline(always)]
    fn score<I: Isa>(&self, isa: I, tile: &Tile, made: &mut Made, scratch: &mut Scratch) {
        let (features, of_values) = self.features();
        let Made { keys_across, values_across, queries, grads, scores, slopes, .. } = made;
        let products = [
            (&*queries, features, &*keys_across, &mut *scores),
            (&*grads, of_values, &*values_across, &mut *slopes),
        ];
        for (a, terms, panels, out) in products {
            let out = room(out, tile.rows.len() * BLOCKS);
            out.fill([0.0; LANES]);
            isa.outline(Product {
                a,
                a_stride: terms,
                terms,
                panels,
                panel_len: terms,
                rows: tile.rows.len(),
                out,
                out_stride: BLOCKS,
                columns: tile.reach.div_ceil(LANES),
            });
        }
        let forward = self.forward();
        let scores = scores.as_flattened_mut();
        for i in 0..tile.rows.len() {
            let row = self.rows.start + tile.rows.start + i;
            let bounds = forward.bounds(row);
            let low = bounds.start.max(tile.first);
            let high = bounds.end.min(tile.first + tile.reach).max(low);
            let part = i * KEYS + low - tile.first..i * KEYS + high - tile.first;
            let scores = &mut scores[part];
            if !scores.iter().all(|score| score.is_finite()) {
                let query = &queries[i * features..][..features];
                wide::scores(forward, row, low..high, query, &mut scratch.beside.flags, scores);
            }
        }
    }

    /// Brings the states of a tile's rows to the end of a block.
    #[inline(always)]
    fn find<I: Isa>(&self, isa: I, tile: &Tile, rows: &mut Rows, made: &mut Made, scratch: &mut Scratch) {
        let (scores, grads) = (made.scores.as_flattened(), made.slopes.as_flattened());
        for (i, at) in tile.rows.clone().enumerate() {
            let state = &mut rows.states[at];
            let row = self.rows.start + at;
            let (scores, grads) = (&scores[i * KEYS..][..tile.reach], &grads[i * KEYS..][..tile.reach]);
            let live = match self.forward().scores.read_part(isa, row, tile.first, scores, &mut scratch.logits) {
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
            let Exps::F64 { values } = exps else { unreachable!("exponentials of f64 are f64") };
            let (sum, rest) = sum_f64(isa, values);
            let (logits, grads) = (logits(&live, scores), &grads[columns]);
            let (zero, masked) = (isa.f64(0.0), isa.f64(f64::NEG_INFINITY));
            let mean = sum_o(
                isa,
                values.len(),
                #[inline(always)]
                |i| {
                    let term = isa.load_f64(&block(values, i, 0.0)) * isa.load_f64(&block(grads, i, 0.0));
                    let logit = isa.load_f64(&block(logits, i, f64::NEG_INFINITY));
                    I::F64::select(logit.eq(masked), zero, term)
                },
            );
            let end = End { max: live.max, sum: sum + rest };
            state.merge(isa, std::slice::from_mut(&mut rows.means[at]), end, &[mean]);
        }
    }

    /// Adds what a tile gives to the sums.
    #[inline(always)]
    fn multiply<I: Isa>(
        &self,
        isa: I,
        tile: &Tile,
        rows: &Rows,
        sums: &mut Sums,
        made: &mut Made,
        scratch: &mut Scratch,
    ) {
        let (features, of_values) = self.features();
        let (count, reach) = (tile.rows.len(), tile.reach);
        room(&mut made.weights, count * BLOCKS);
        for i in 0..count {
            self.weigh(isa, tile, i, rows, made, scratch);
        }
        let Made { keys_along, queries_along, grads_along, slopes, weights, turned, .. } = made;
        let (weights, slopes) = (weights.as_flattened(), slopes.as_flattened());
        let turned = room(turned, KEYS * ROWS);
        let [dq, dk, dv] = &mut sums.all;
        let columns = features.div_ceil(LANES);
        isa.outline(Product {
            a: slopes,
            a_stride: KEYS,
            terms: reach,
            panels: keys_along,
            panel_len: tile.count,
            rows: count,
            out: &mut dq[tile.rows.start * columns..],
            out_stride: columns,
            columns,
        });
        for (from, panels, width, out) in [(slopes, queries_along, features, dk), (weights, grads_along, of_values, dv)]
        {
            for (i, row) in from.chunks_exact(KEYS).take(count).enumerate() {
                for (key, x) in row[..reach].iter().enumerate() {
                    turned[key * ROWS + i] = *x;
                }
            }
            let columns = width.div_ceil(LANES);
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

    /// Makes the weights of a row's values, and the gradients of its scores: zeros where it is masked, and NaN elsewhere
    /// if one of them is not finite.
    #[inline(always)]
    fn weigh<I: Isa>(&self, isa: I, tile: &Tile, i: usize, rows: &Rows, made: &mut Made, scratch: &mut Scratch) {
        let scores = &made.scores.as_flattened()[i * KEYS..][..tile.reach];
        let grads = &mut made.slopes.as_flattened_mut()[i * KEYS..][..tile.reach];
        let weights = &mut made.weights.as_flattened_mut()[i * KEYS..][..tile.reach];
        let at = tile.rows.start + i;
        let Scratch { logits: buffers, beside, .. } = scratch;
        let of = &self.forward().scores;
        let live = match of.read_part(isa, self.rows.start + at, tile.first, scores, buffers) {
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
        // Of a mean that is not finite no gradient is left.
        let mean = if mean.is_finite() { mean } else { f64::NAN };
        let whole = self.grad(self.rows.start + at).iter().all(|dy| dy.widen().is_finite());
        exp_f64(isa, logits, max, weights);
        let (zero, masked) = (isa.f64(0.0), isa.f64(f64::NEG_INFINITY));
        let (share, mean) = (isa.f64(share), isa.f64(mean));
        Span::in_place(&mut *grads).map_wide_with(
            isa,
            [&*weights, logits],
            #[inline(always)]
            |_, grad, [weight, logit]| {
                let slope = isa.load_f64(weight) * share * (grad - mean);
                I::F64::select(isa.load_f64(logit).eq(masked), zero, slope)
            },
        );
        if let Some(slopes) = slopes(isa, of, 1.0, &scores[columns], &mut beside.f64s) {
            Span::in_place(grads).map_wide_with(
                isa,
                [slopes],
                #[inline(always)]
                |_, grad, [slope]| grad * isa.load_f64(slope),
            );
        }
        let share = if whole { share } else { isa.f64(f64::NAN) };
        Span::in_place(weights).map_wide_with(
            isa,
            [logits],
            #[inline(always)]
            |_, weight, [logit]| I::F64::select(isa.load_f64(logit).eq(masked), zero, weight * share),
        );
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
    fn means_of_all(&self, factor: f64, rows: &Rows, sums: &mut Sums) {
        let forward = self.forward();
        if forward.scores.fully_masked != FullyMasked::Uniform || forward.keys() == 0 {
            return;
        }
        let (share, (_, width)) = (1.0 / forward.keys() as f64, self.features());
        let mut sum = vec![0.0; width];
        for (i, _) in rows.states.iter().enumerate().filter(|(_, state)| state.is_empty()) {
            let grad = self.grad(self.rows.start + i);
            let whole = grad.iter().all(|dy| dy.widen().is_finite());
            for (sum, dy) in sum.iter_mut().zip(grad) {
                let dy = if whole { dy.widen() * factor } else { f64::NAN };
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

/// The logits of the columns that have some.
#[inline(always)]
fn logits<'s>(live: &Live<'s>, scores: &'s [f64]) -> &'s [f64] {
    match live.logits {
        Logits::F64(logits) => logits,
        Logits::Direct | Logits::F32(_) => &scores[live.columns.clone()],
    }
}
