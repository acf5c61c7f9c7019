//! Attention. A tile of queries that share a key head is processed together, one block of keys at a time. The whole
//! score matrix is thus never stored.
//!
//! The keys are divided into blocks of 256, starting at the first key. For each query and block, f32 arithmetic
//! computes the scores, the maximum score, the exponentials, the sum of the exponentials (a fixed-point sum of
//! `math::sum`) and the weighted sum of the values. Sums of products are cut into chains of [`CHAIN`] fused
//! multiply-adds, and the chain sums are added in order. If an unmasked score or a weighted sum is NaN or beyond the
//! range of f32, the block is computed again in f64 (`wide`) for this query. If the scale is outside [`NARROW_SCALES`],
//! all blocks are computed in f64. Blocks are merged in f64, in order (`merge`). Neither the grouping of queries nor
//! the number of threads affects the bits.

mod decode;
pub mod merge;
mod narrow;
mod pack;
mod product;
mod split_kv;
pub mod wide;

pub use split_kv::Parts;
#[cfg(feature = "sharded")]
pub use split_kv::Shape;
#[cfg(feature = "sharded")]
pub use wide::SMALL;

use super::lanes::GuardCounts;
use super::scores::LogitTransform;
use super::scratch::{self, Lendable, Scratch, scratch_slice};
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::heads::Heads;
use crate::mask::{FullyMasked, Resolved};
use crate::math::log::log_scalar;
use crate::simd::{self, Isa, Kernel, Output, Span, Work, Written, allocated};
use merge::{BlockResult, State};
use std::cell::Cell;
use std::ops::Range;

/// Number of keys in a block. The value affects the result, because each block's sums are rounded before the merge.
pub const KEYS: usize = 256;
/// Maximum number of terms in a chain of multiply-adds. The value affects the result and its error: a term passes
/// through at most this many roundings in its chain, and then through at most one for each chain sum.
pub const CHAIN: usize = 32;
/// Range of scale magnitudes that allow a computation in f32. A smaller scale could be subnormal in f32. A larger scale
/// would magnify the rounding errors of subnormal products.
pub const NARROW_SCALES: Range<f64> = 1e-30..1e30;
/// Number of queries that share a block's packed keys and values. The value does not affect the result.
const QUERIES: usize = 192;

/// Checked arguments of a call.
#[derive(Clone, Copy)]
pub struct Attention<'a, E> {
    pub q: Heads<'a, E>,
    pub k: Heads<'a, E>,
    pub v: Heads<'a, E>,
    pub scores: LogitTransform<'a>,
    /// Sink of each query head: an extra logit without a value vector.
    pub sinks: Option<Floats<'a>>,
    /// Number of keys that the mask covers before this call's first key. The number is a multiple of [`KEYS`].
    pub first: usize,
    /// Power of two that multiplies the f64 sums. A value below 1 keeps the sums from overflowing.
    pub factor: f64,
}

impl<E: Element> Attention<'_, E> {
    /// Returns the batch, head and position of a row.
    #[inline(always)]
    pub fn place(&self, row: usize) -> [usize; 3] {
        let [_, heads, queries, _] = self.q.shape();
        [row / (heads * queries), row / queries % heads, row % queries]
    }

    #[inline(always)]
    pub fn query(&self, row: usize) -> &[E] {
        let [batch, head, position] = self.place(row);
        self.q.row(batch, head, position)
    }

    /// Returns the number of query heads that share each key head.
    #[inline(always)]
    pub fn group(&self) -> usize {
        self.q.shape()[1] / self.k.shape()[1].max(1)
    }

    /// Returns the number of rows that share the keys of one key head.
    #[inline(always)]
    pub fn rows_a_head(&self) -> usize {
        self.group() * self.q.shape()[2]
    }

    #[inline(always)]
    pub fn keys(&self) -> Range<usize> {
        self.first..self.first + self.k.shape()[2]
    }

    /// Returns the keys visible to each row, and the transform of query-key products into logits.
    #[inline(always)]
    pub fn sight(&self) -> Sight<'_> {
        let keys = self.keys();
        Sight { scores: self.scores, first: keys.start, end: keys.end }
    }

    /// Returns a range that contains all unmasked keys of this row.
    #[inline(always)]
    pub fn bounds(&self, row: usize) -> Range<usize> {
        self.sight().bounds(row)
    }

    /// Returns a range that contains all key blocks with unmasked keys of these rows.
    #[inline(always)]
    fn blocks(&self, rows: Range<usize>) -> Range<usize> {
        let low = rows.clone().map(|row| self.bounds(row).start).min().unwrap_or(0);
        low / KEYS..self.end_of_keys(rows).div_ceil(KEYS)
    }

    /// Returns the largest end of the rows' [`Attention::bounds`].
    fn end_of_keys(&self, rows: Range<usize>) -> usize {
        rows.map(|row| self.bounds(row).end).max().unwrap_or(0)
    }

    #[inline(always)]
    pub fn sink(&self, row: usize) -> f64 {
        let [_, head, _] = self.place(row);
        self.sinks.and_then(|sinks| sinks.get(head)).unwrap_or(f64::NEG_INFINITY)
    }

    /// Returns the number of tiles for each key head.
    fn tiles_a_head(&self) -> usize {
        self.rows_a_head().div_ceil(QUERIES)
    }

    fn tiles(&self) -> usize {
        self.k.shape()[0] * self.k.shape()[1] * self.tiles_a_head()
    }

    fn rows_of(&self, tile: usize) -> Range<usize> {
        self.rows_before(tile)..self.rows_before(tile + 1)
    }

    /// Returns the total number of rows in the tiles before this tile.
    fn rows_before(&self, tile: usize) -> usize {
        let tiles = self.tiles_a_head().max(1);
        tile / tiles * self.rows_a_head() + (tile % tiles * QUERIES).min(self.rows_a_head())
    }
}

/// Keys visible to each row, and the transform of the query-key products into logits.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    pub scores: LogitTransform<'a>,
    /// Index of the first key.
    first: usize,
    /// Index one past the last key.
    end: usize,
}

impl Sight<'_> {
    /// Returns a range that contains all unmasked keys of this row.
    #[inline(always)]
    pub fn bounds(&self, row: usize) -> Range<usize> {
        match &self.scores.mask {
            Some(mask) => {
                let (low, high) = mask.bounds(row);
                low.clamp(self.first, self.end)..high.clamp(self.first, self.end)
            }
            None => self.first..self.end,
        }
    }

    /// Returns whether a row attends to a key: the key is within the row's bounds, and neither a flag nor a bias masks
    /// the key.
    pub fn sees(&self, row: usize, key: usize, flags: &mut Vec<u8>) -> bool {
        let kept = |mask: &Resolved<'_>| {
            mask.keep(row, key, key + 1, flags).is_none_or(|keep| keep[0] != 0)
                && !(mask.has_bias() && mask.bias_at(row, key) == f64::NEG_INFINITY)
        };
        self.bounds(row).contains(&key) && self.scores.mask.as_ref().is_none_or(kept)
    }
}

/// Computes the attention of all rows, and each row's log-sum-exp if `lse` is given. If `parts` is given, it holds the
/// partial results of all blocks. The function then only merges these results in order. It reads no keys. It reads
/// values only for fully masked rows under `FullyMasked::Uniform`.
pub fn apply<'a, E: Element>(
    call: Attention<'_, E>,
    parts: Option<&[Parts]>,
    out: Output<'a, E>,
    lse: Option<&mut [f64]>,
) -> Result<(&'a mut [E], GuardCounts)> {
    if parts.is_none() && split_kv::are_worth_it(&call) {
        let parts = Parts::of(call)?;
        return run(call, Some(std::slice::from_ref(&parts)), out, lse);
    }
    run(call, parts, out, lse)
}

fn run<'a, E: Element>(
    call: Attention<'_, E>,
    parts: Option<&[Parts]>,
    out: Output<'a, E>,
    lse: Option<&mut [f64]>,
) -> Result<(&'a mut [E], GuardCounts)> {
    out.write(|to| simd::run(Tiles { call, parts, tiles: 0..call.tiles(), to, lse }))
}

struct Tiles<'a, 'w, E> {
    call: Attention<'a, E>,
    /// Partial results of all blocks, if they were computed before.
    parts: Option<&'a [Parts]>,
    tiles: Range<usize>,
    to: Output<'w, E>,
    lse: Option<&'a mut [f64]>,
}

impl<'w, E: Element> Work for Tiles<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.tiles.len()
    }

    fn cols(&self) -> usize {
        let [_, _, keys, features] = self.call.k.shape();
        QUERIES.min(self.call.rows_a_head()).saturating_mul(keys).saturating_mul(features.max(1))
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Tiles { call, parts, tiles, to, lse } = self;
        let middle = tiles.start + at;
        let rows = call.rows_before(middle) - call.rows_before(tiles.start);
        let (to_a, to_b) = to.split_at(rows * call.v.shape()[3]);
        let (lse_a, lse_b) = lse.map(|lse| lse.split_at_mut(rows)).unzip();
        (
            Tiles { call, parts, tiles: tiles.start..middle, to: to_a, lse: lse_a },
            Tiles { call, parts, tiles: middle..tiles.end, to: to_b, lse: lse_b },
        )
    }
}

impl<'w, E: Element> Kernel for Tiles<'_, 'w, E> {
    type Out = (Written<'w>, GuardCounts);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let Tiles { call, parts, tiles, mut to, mut lse } = self;
        let (mut written, mut guards) = (Written::default(), GuardCounts::default());
        let features = call.v.shape()[3];
        let (mut lent, mut lent_scratch) = (scratch::lend(&BUFFERS), scratch::lend_scratch());
        let (buffers, scratch) = (lent.get(), lent_scratch.get());
        for tile in tiles {
            let rows = call.rows_of(tile);
            let these = to.take_first(rows.len() * features);
            let (these_lse, rest_lse) = lse.map(|lse| lse.split_at_mut(rows.len())).unzip();
            lse = rest_lse;
            let these = Tile { call: &call, parts, tile, rows, to: these, lse: these_lse, guards: &mut guards };
            written = written + these.run(isa, buffers, scratch);
        }
        (written, guards)
    }
}

/// Rows that share a key head.
struct Tile<'a, 'w, E> {
    call: &'a Attention<'a, E>,
    parts: Option<&'a [Parts]>,
    tile: usize,
    rows: Range<usize>,
    to: Output<'w, E>,
    lse: Option<&'a mut [f64]>,
    guards: &'a mut GuardCounts,
}

impl<'w, E: Element> Tile<'_, 'w, E> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I, buffers: &mut Buffers, scratch: &mut Scratch) -> Written<'w> {
        let Tile { call, parts, tile, rows, mut to, mut lse, guards } = self;
        let features = call.v.shape()[3];
        let mut written = Written::default();
        guards.counts.rows += rows.len() as u64;
        match parts {
            None => attend(isa, call, rows.clone(), buffers, scratch),
            Some(parts) => collect(isa, call, parts, (tile, rows.clone()), buffers),
        }
        for (i, row) in rows.enumerate() {
            let at = i * features..(i + 1) * features;
            let state = buffers.states[i];
            let to = Span::new(&buffers.out[at.clone()], to.range(at));
            written = written + finish(isa, call, row, state, to, guards).into();
            if let Some(lse) = &mut lse {
                lse[i] = state.log_sum_exp(isa);
            }
        }
        written
    }
}

/// Buffers of a tile.
#[derive(Default)]
pub struct Buffers {
    narrow: narrow::Buffers,
    wide: wide::Buffers,
    /// Running maximum and sum of each row.
    states: Vec<State>,
    /// For each row, the weighted sum of the values so far.
    out: Vec<f64>,
}

impl Buffers {
    /// Resets the rows to their state before the first key.
    #[inline(always)]
    fn start<E: Element>(&mut self, call: &Attention<'_, E>, rows: Range<usize>) {
        scratch_slice(&mut self.out, rows.len() * call.v.shape()[3]).fill(0.0);
        self.states.clear();
        self.states.extend(rows.map(|row| State::new(call.sink(row)).scaled(call.factor)));
    }
}

allocated! {
    Buffers { narrow, wide, states, out }
}

thread_local! {
    pub static BUFFERS: Lendable<Buffers> = const { Cell::new(None) };
}

/// Merges all visible keys, block by block, into the states of rows that share a key head.
#[inline(always)]
fn attend<I: Isa, E: Element>(
    isa: I,
    call: &Attention<'_, E>,
    rows: Range<usize>,
    buffers: &mut Buffers,
    scratch: &mut Scratch,
) {
    buffers.start(call, rows.clone());
    let features = call.v.shape()[3];
    let Buffers { narrow, wide, states, out } = buffers;
    each_part(
        isa,
        call,
        (rows.clone(), call.blocks(rows.clone())),
        (narrow, wide, scratch),
        #[inline(always)]
        |_, i, part| part.merge_into(isa, &mut states[i], &mut out[i * features..][..features]),
    );
    if E::IS_F64 {
        for (i, row) in rows.enumerate() {
            let out = &mut out[i * features..][..features];
            if !out.iter().all(|value| value.is_finite()) {
                wide::again(isa, call, row, &mut states[i], out, wide, scratch);
            }
        }
    }
}

/// Calls `each` with the partial result of every row for every block. The arguments are the index of the block, the
/// index of the row in `rows`, and the result.
#[inline(always)]
fn each_part<I: Isa, E: Element>(
    isa: I,
    call: &Attention<'_, E>,
    (rows, blocks): (Range<usize>, Range<usize>),
    (narrow, wide, scratch): (&mut narrow::Buffers, &mut wide::Buffers, &mut Scratch),
    mut each: impl FnMut(usize, usize, BlockResult<'_>),
) {
    // Each condition tests the constant `E::IS_F64`, so rustc compiles no f32 kernel for f64 tensors.
    if !E::IS_F64 {
        narrow.start(isa, call, rows.clone());
    }
    for block in blocks {
        if !E::IS_F64 {
            let rows = rows.clone();
            isa.outline(narrow::Block { call, rows, first: block * KEYS, buffers: narrow, scratch });
        }
        for (i, row) in rows.clone().enumerate() {
            let part = if E::IS_F64 { None } else { narrow.part(isa, i, call.v.shape()[3]) };
            let part = match part {
                Some(part) => part,
                None => isa.outline(wide::Block { call, row, first: block * KEYS, buffers: wide, scratch }),
            };
            each(block, i, part);
        }
    }
}

/// Computes the same states as [`attend`], but from partial results that were computed before.
#[inline(always)]
fn collect<I: Isa, E: Element>(
    isa: I,
    call: &Attention<'_, E>,
    parts: &[Parts],
    (tile, rows): (usize, Range<usize>),
    buffers: &mut Buffers,
) {
    buffers.start(call, rows.clone());
    let features = call.v.shape()[3];
    for parts in parts {
        for block in parts.blocks() {
            for i in 0..rows.len() {
                let out = &mut buffers.out[i * features..][..features];
                parts.part(tile, block, i).merge_into(isa, &mut buffers.states[i], out);
            }
        }
    }
}

/// Writes a row's result.
#[inline(always)]
fn finish<'d, I: Isa, E: Element>(
    isa: I,
    call: &Attention<'_, E>,
    row: usize,
    state: State,
    to: Span<'_, 'd, f64, E>,
    guards: &mut GuardCounts,
) -> &'d mut [E] {
    if state.is_empty() {
        guards.counts.fully_masked += 1;
        return match call.scores.fully_masked {
            FullyMasked::Zeros => to.fill(E::ZERO),
            FullyMasked::Uniform => to.copy_from(&wide::means(call, row)),
            FullyMasked::Error => {
                guards.first_refused = guards.first_refused.or(Some(row));
                to.fill(E::ZERO)
            }
        };
    }
    if let Some(spoilt) = state.spoilt() {
        if spoilt.is_nan() {
            guards.counts.nan += 1;
        } else {
            guards.counts.infinite += 1;
        }
        return to.fill(E::NAN);
    }
    let (sum, most) = (isa.f64(state.sum), isa.f64(f64::MAX));
    to.map(
        isa,
        #[inline(always)]
        |_, out: I::F64| {
            use crate::simd::{Float, Select};
            // The mean of finite numbers is finite, but its rounded value may overflow. So the mean is clamped.
            let mean = out / sum;
            I::F64::select(out.abs().le(most), mean.min(most).max(isa.f64(f64::MIN)), mean)
        },
    )
}

impl State {
    /// Returns the log-sum-exp of the row's logits.
    #[inline(always)]
    fn log_sum_exp<I: Isa>(&self, isa: I) -> f64 {
        if self.is_empty() {
            return f64::NEG_INFINITY;
        }
        if let Some(spoilt) = self.spoilt() {
            return spoilt;
        }
        let (high, low) = log_scalar(isa, self.sum / self.factor);
        self.max + (high + low)
    }
}
