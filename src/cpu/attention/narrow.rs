//! Computes a block of keys for a tile of queries, in f32.

use super::decode::{self, FEW};
use super::merge::{BlockResult, End};
use super::product::{Product, ROWS};
use super::{Attention, KEYS, NARROW_SCALES, Sight, pack};
use crate::cpu::scores::{LogitTransform, Row};
use crate::cpu::scratch::{Scratch, scratch_slice};
use crate::element::Element;
use crate::math::fixed_point::units_to_f64;
use crate::simd::{BLOCK, Float, Isa, Kernel, MaskBits, Span, allocated};
use std::ops::Range;

/// Number of blocks in a row of scores. A block has sixteen scores.
const BLOCKS: usize = KEYS / BLOCK;
/// Number of rows in one matrix product. The product stops at the last key that any of these rows sees.
const CHUNK: usize = 4 * ROWS;

#[derive(Default)]
pub struct Buffers {
    queries: Vec<f32>,
    keys: Vec<[f32; BLOCK]>,
    values: Vec<[f32; BLOCK]>,
    /// Indices of the block's keys whose values are not all finite.
    broken: Vec<usize>,
    /// Rows of [`KEYS`] numbers, one row for each query of a chunk: first the scores, later the weights.
    weights: Vec<[f32; BLOCK]>,
    /// Weighted sums of the values. Each query has one row.
    sums: Vec<[f32; BLOCK]>,
    weighed: Vec<Weighed>,
}

allocated! {
    Buffers { queries, keys, values, broken, weights, sums, weighed }
}

/// Result of replacing a row's scores by weights.
#[derive(Clone, Copy)]
enum Weighed {
    /// No unmasked key.
    Empty,
    Found(End),
    /// The result is beyond the range of f32, so the row is computed again in f64.
    Beyond,
}

impl Buffers {
    /// Widens the queries of a tile to f32.
    #[inline(always)]
    pub fn start<I: Isa, E: Element>(&mut self, isa: I, call: &Attention<'_, E>, rows: Range<usize>) {
        let features = call.q.shape()[3];
        let queries = scratch_slice(&mut self.queries, rows.len() * features);
        for (row, to) in rows.zip(queries.chunks_exact_mut(features.max(1))) {
            Span::in_place(to).reading(call.query(row)).map(
                isa,
                #[inline(always)]
                |_, x: I::F32| x,
            );
        }
    }

    /// Returns a row's result for the current block; `None` if f32 cannot represent it.
    #[inline(always)]
    pub fn part<I: Isa>(&self, isa: I, row: usize, features: usize) -> Option<BlockResult<'_>> {
        let end = match self.weighed[row] {
            Weighed::Empty => return Some(BlockResult::Empty),
            Weighed::Found(end) => end,
            Weighed::Beyond => return None,
        };
        let columns = features.div_ceil(BLOCK);
        let sums = &self.sums[row * columns..][..columns];
        is_finite(isa, sums).then_some(BlockResult::Narrow(end, &sums.as_flattened()[..features]))
    }
}

/// Kernel that computes the attention of the queries `rows` to one block of keys, which begins at `first`. For each
/// query, stores the status and the weighted sum of the values in `buffers`.
pub struct Block<'c, 'b, E> {
    pub call: &'c Attention<'c, E>,
    pub rows: Range<usize>,
    pub first: usize,
    pub buffers: &'b mut Buffers,
    pub scratch: &'b mut Scratch,
}

impl<E: Element> Kernel for Block<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Block { call, rows, first, buffers, scratch } = self;
        let [batch, head, _] = call.place(rows.start);
        let head = head / call.group();
        let start = first - call.first;
        let count = KEYS.min(call.keys().end - first);
        let (features, of_values) = (call.k.shape()[3], call.v.shape()[3]);
        let columns = of_values.div_ceil(BLOCK);
        let Buffers { queries, keys, values, broken, weights, sums, weighed } = buffers;
        let weights = scratch_slice(weights, CHUNK.min(rows.len()) * BLOCKS);
        let sums = scratch_slice(sums, rows.len() * columns);
        weighed.clear();
        weighed.resize(rows.len(), Weighed::Empty);
        let (k, v) = (call.k.positions(batch, head, start), call.v.positions(batch, head, start));
        let key = |i| k.row(i);
        let value = |i| v.row(i);
        // Returns how many keys of the block must be processed if no row sees key `end` or a later one.
        let reach = |end: usize| end.saturating_sub(first).min(count);
        let sight = call.sight();
        if rows.len() <= FEW {
            let reach = reach(call.end_of_keys(rows.clone()));
            let after = |i| (start + i < call.k.shape()[2]).then(|| key(i));
            decode::scores(isa, queries, (key, value), (reach, features), weights);
            for i in 0..rows.len() {
                let row = &mut weights[i * BLOCKS..].as_flattened_mut()[..reach];
                weighed[i] = isa.outline(Weigh { sight, lane: rows.start + i, first, row, scratch });
            }
            decode::sums(isa, weights.as_flattened(), (value, |i| after(i + KEYS)), (reach, of_values), sums);
            if is_finite(isa, sums) {
                return;
            }
        }
        let keys = scratch_slice(keys, BLOCKS * features);
        pack::keys(isa, key, count, features, keys);
        let values = scratch_slice(values, KEYS * columns);
        pack::values(isa, value, count, of_values, values, broken);
        for start in (0..rows.len()).step_by(CHUNK) {
            let chunk = start..(start + CHUNK).min(rows.len());
            let reach = reach(call.end_of_keys(rows.start + chunk.start..rows.start + chunk.end));
            let weights = &mut weights[..chunk.len() * BLOCKS];
            isa.outline(Product {
                a: &queries[chunk.start * features..],
                a_stride: features,
                terms: features,
                panels: keys,
                panel_len: features,
                rows: chunk.len(),
                out: &mut *weights,
                out_stride: BLOCKS,
                columns: reach.div_ceil(BLOCK),
            });
            let weights = weights.as_flattened_mut();
            for i in chunk.clone() {
                let row = &mut weights[(i - chunk.start) * KEYS..][..reach];
                let lane = rows.start + i;
                weighed[i] = isa.outline(Weigh { sight, lane, first, row, scratch });
                if broken.iter().any(|key| sight.sees(lane, first + key, &mut scratch.beside.flags)) {
                    weighed[i] = Weighed::Beyond;
                }
            }
            isa.outline(Product {
                a: weights,
                a_stride: KEYS,
                terms: reach,
                panels: values,
                panel_len: count,
                rows: chunk.len(),
                out: &mut sums[chunk.start * columns..chunk.end * columns],
                out_stride: columns,
                columns,
            });
        }
    }
}

/// Replaces a row's products by weights, with zeros for masked keys.
struct Weigh<'a, 's> {
    sight: Sight<'a>,
    lane: usize,
    first: usize,
    row: &'s mut [f32],
    scratch: &'s mut Scratch,
}

impl Kernel for Weigh<'_, '_> {
    type Out = Weighed;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Weighed {
        let Weigh { sight, lane, first, row, scratch } = self;
        let bounds = sight.bounds(lane);
        let low = bounds.start.saturating_sub(first).min(row.len());
        let high = bounds.end.saturating_sub(first).min(row.len()).max(low);
        let magnitude = sight.scores.scale.abs();
        if magnitude != 0.0 && !NARROW_SCALES.contains(&magnitude) {
            row.fill(0.0);
            return Weighed::Beyond;
        }
        if !scale(isa, &mut row[low..high], sight.scores.scale as f32) {
            for key in low..high {
                if row[key].is_finite() {
                    continue;
                }
                if sight.sees(lane, first + key, &mut scratch.beside.flags) {
                    row.fill(0.0);
                    return Weighed::Beyond;
                }
                // The key is masked, so its product does not matter.
                row[key] = 0.0;
            }
        }
        let scores = LogitTransform { scale: 1.0, ..sight.scores };
        let live = match scores.read_part(isa, lane, first, row, &mut scratch.logits) {
            Row::Live(live) => live,
            Row::Masked => {
                row.fill(0.0);
                return Weighed::Empty;
            }
            Row::Nan(_) | Row::Infinite(_) => {
                row.fill(0.0);
                return Weighed::Beyond;
            }
        };
        let columns = live.columns.clone();
        row[..columns.start].fill(0.0);
        row[columns.end..].fill(0.0);
        let (_, sum) = live.exps_to(isa, Span::in_place(&mut row[columns]), KEYS);
        Weighed::Found(End { max: live.max, sum: units_to_f64(sum, KEYS) })
    }
}

/// Multiplies a row by the scale, rounding each product once. Returns whether all elements are finite before and after
/// the multiplication.
#[inline(always)]
fn scale<I: Isa>(isa: I, row: &mut [f32], scale: f32) -> bool {
    let (factor, infinity) = (isa.f32(scale), isa.f32(f32::INFINITY));
    let mut finite = infinity.eq(infinity);
    Span::in_place(row).map(
        isa,
        #[inline(always)]
        |_, x: I::F32| {
            let z = x * factor;
            finite = finite & x.abs().lt(infinity) & z.abs().lt(infinity);
            z
        },
    );
    !(!finite).any()
}

#[inline(always)]
fn is_finite<I: Isa>(isa: I, blocks: &[[f32; BLOCK]]) -> bool {
    let infinity = isa.f32(f32::INFINITY);
    let mut finite = infinity.eq(infinity);
    for block in blocks {
        finite = finite & isa.load_f32(block).abs().lt(infinity);
    }
    !(!finite).any()
}
