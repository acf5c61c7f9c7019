//! Partial results of the key blocks, stored until they are merged. Keys can thus be split between threads and between
//! machines. The order of the merges stays the same.

use super::merge::{BlockResult, End};
use super::{Attention, BUFFERS, KEYS, QUERIES, each_part};
use crate::cpu::scratch;
use crate::element::Element;
use crate::error::Result;
use crate::simd::{self, Isa, Kernel, Work, filled};
use std::ops::Range;

/// Partial results of consecutive blocks of keys, for all rows of a call.
#[derive(Clone, Debug)]
pub struct Parts {
    blocks: Range<usize>,
    shape: Shape,
    /// Largest logit and sum of exponentials, for each tile, block and row. A maximum of -inf means that the row has no
    /// unmasked key in the block. A maximum of NaN or +inf means that a logit has this value.
    ends: Vec<End>,
    values: Vec<f64>,
}

/// Shape of the rows that the partial results belong to.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of key heads, in all batches.
    pub heads: usize,
    /// Number of rows for each key head.
    pub rows: usize,
    /// Number of features of the values.
    pub features: usize,
}

impl Shape {
    /// Returns the number of results that are stored for each tile and block: the maximum number of rows in a tile.
    fn room(&self) -> usize {
        QUERIES.min(self.rows)
    }

    fn tiles(&self) -> usize {
        self.heads * self.rows.div_ceil(QUERIES)
    }
}

/// Returns whether to split the keys. Splitting pays if there are fewer tiles than threads and the partial results take
/// little memory.
pub fn are_worth_it<E: Element>(call: &Attention<'_, E>) -> bool {
    /// The keys are split only if at most this many rows share a key head. With this many rows, the results of a block
    /// take about a 16th of the memory that the block's keys and values take in f32.
    const MOST_ROWS: usize = 16;
    let in_f32 = !E::IS_F64;
    let blocks = call.keys().len().div_ceil(KEYS);
    in_f32 && call.tiles() < simd::threads() && blocks > 1 && call.rows_a_head() <= MOST_ROWS
}

impl Parts {
    /// Computes the partial results of all blocks of the call's keys.
    pub fn of<E: Element>(call: Attention<'_, E>) -> Result<Self> {
        let keys = call.keys();
        let blocks = keys.start / KEYS..keys.end.div_ceil(KEYS);
        let [batch, heads, ..] = call.k.shape();
        let shape = Shape { heads: batch * heads, rows: call.rows_a_head(), features: call.v.shape()[3] };
        let mut parts = Parts::nothing(shape, blocks.clone())?;
        let (units, rows) = (0..shape.tiles() * blocks.len(), shape.room());
        let Parts { ends, values, .. } = &mut parts;
        simd::run(Blocks { call, blocks, units, rows, ends, values })?;
        Ok(parts)
    }

    /// Allocates memory for the results of these blocks, and marks every result as empty.
    fn nothing(shape: Shape, blocks: Range<usize>) -> Result<Self> {
        const WHAT: &str = "the sums of each block of keys";
        // A product beyond usize saturates, so that the allocation fails.
        let slots = shape.tiles().saturating_mul(blocks.len()).saturating_mul(shape.room());
        let values = filled("attention", WHAT, slots.saturating_mul(shape.features), 0.0)?;
        let ends = filled("attention", WHAT, slots, End { max: f64::NEG_INFINITY, sum: 0.0 })?;
        Ok(Parts { blocks, shape, ends, values })
    }

    pub fn blocks(&self) -> Range<usize> {
        self.blocks.clone()
    }

    /// Returns the result of a block for a row. `row` is the row's index in the tile.
    #[inline(always)]
    pub fn part(&self, tile: usize, block: usize, row: usize) -> BlockResult<'_> {
        let slot = self.slot(tile, block, row);
        let end = self.ends[slot];
        if end.max == f64::NEG_INFINITY {
            BlockResult::Empty
        } else if end.max.is_finite() {
            BlockResult::Wide(end, &self.values[slot * self.shape.features..][..self.shape.features])
        } else {
            BlockResult::Spoilt(end.max)
        }
    }

    #[inline(always)]
    fn slot(&self, tile: usize, block: usize, row: usize) -> usize {
        (tile * self.blocks.len() + block - self.blocks.start) * self.shape.room() + row
    }
}

#[cfg(feature = "sharded")]
impl Parts {
    /// Appends the parts as words. The first words are the start and the end of the block range. The next words are the
    /// results, block by block and row by row. A result is the largest logit and, if this logit is finite, the sum of
    /// exponentials and the weighted sums of the values.
    pub fn to_words(&self, words: &mut Vec<u64>) {
        words.extend([self.blocks.start, self.blocks.end].map(|block| block as u64));
        for slot in self.slots() {
            let End { max, sum } = self.ends[slot];
            words.push(max.to_bits());
            if max.is_finite() {
                let values = &self.values[slot * self.shape.features..][..self.shape.features];
                words.extend([sum].iter().chain(values).map(|number| number.to_bits()));
            }
        }
    }

    /// Reads parts from the start of `words`, and returns them with the remaining words. Returns `None` if the words
    /// are invalid, or if a block of the parts is outside the range `among`.
    pub fn from_words(shape: Shape, among: Range<usize>, words: &[u64]) -> Result<Option<(Self, &[u64])>> {
        let Some(([start, end], words)) = words.split_first_chunk() else { return Ok(None) };
        let (Ok(start), Ok(end)) = (usize::try_from(*start), usize::try_from(*end)) else { return Ok(None) };
        let there = among.start <= start && start < end && end <= among.end;
        // Each result takes at least one word. A range with more results than words is rejected before the allocation.
        if !there || (shape.heads * shape.rows).saturating_mul(end - start) > words.len() {
            return Ok(None);
        }
        let parts = Parts::nothing(shape, start..end)?;
        Ok(parts.filled_from(words))
    }

    /// Reads all results from the start of `words`. Returns the parts and the remaining words, or `None` if there are
    /// too few words or a word is invalid.
    fn filled_from(self, mut words: &[u64]) -> Option<(Self, &[u64])> {
        let shape = self.shape;
        let mut parts = self;
        for slot in parts.slots() {
            let ([max], rest) = words.split_first_chunk()?;
            let max = f64::from_bits(*max);
            words = rest;
            parts.ends[slot].max = max;
            if max.is_finite() {
                let (numbers, rest) = words.split_at_checked(1 + shape.features)?;
                words = rest;
                let mut numbers = numbers.iter().map(|bits| f64::from_bits(*bits));
                // The sum includes the term of the largest logit, so it is positive.
                let sum = numbers.next().filter(|sum| *sum > 0.0 && sum.is_finite())?;
                parts.ends[slot].sum = sum;
                let values = &mut parts.values[slot * shape.features..][..shape.features];
                values.iter_mut().zip(numbers).for_each(|(to, value)| *to = value);
            }
        }
        Some((parts, words))
    }

    /// Returns the indices of the stored results, ordered by block, and within a block by row.
    fn slots(&self) -> Vec<usize> {
        let Shape { heads, rows, .. } = self.shape;
        if heads == 0 || rows == 0 {
            return Vec::new();
        }
        let tiles = rows.div_ceil(QUERIES);
        let place = move |head: usize, row: usize| (head * tiles + row / QUERIES, row % QUERIES);
        let places: Vec<_> = (0..heads).flat_map(|head| (0..rows).map(move |row| place(head, row))).collect();
        let blocks = self.blocks.clone();
        blocks.flat_map(|block| places.iter().map(move |(tile, row)| self.slot(*tile, block, *row))).collect()
    }
}

/// Computation of partial results. A unit is one tile of queries with one block of keys.
struct Blocks<'a, 'o, E> {
    call: Attention<'a, E>,
    blocks: Range<usize>,
    units: Range<usize>,
    rows: usize,
    ends: &'o mut [End],
    values: &'o mut [f64],
}

impl<E: Element> Work for Blocks<'_, '_, E> {
    fn rows(&self) -> usize {
        self.units.len()
    }

    fn cols(&self) -> usize {
        (self.rows * KEYS).saturating_mul(self.call.k.shape()[3].max(1))
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Blocks { call, blocks, units, rows, ends, values } = self;
        let middle = units.start + at;
        let (ends_a, ends_b) = ends.split_at_mut(at * rows);
        let (values_a, values_b) = values.split_at_mut(at * rows * call.v.shape()[3]);
        (
            Blocks { call, blocks: blocks.clone(), units: units.start..middle, rows, ends: ends_a, values: values_a },
            Blocks { call, blocks, units: middle..units.end, rows, ends: ends_b, values: values_b },
        )
    }
}

impl<E: Element> Kernel for Blocks<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Blocks { call, blocks, units, rows: room, ends, values } = self;
        let features = call.v.shape()[3];
        let (mut lent, mut lent_scratch) = (scratch::lend(&BUFFERS), scratch::lend_scratch());
        let (buffers, scratch) = (lent.get(), lent_scratch.get());
        for (slot, unit) in units.enumerate() {
            let rows = call.rows_of(unit / blocks.len());
            let block = blocks.start + unit % blocks.len();
            if !call.blocks(rows.clone()).contains(&block) {
                continue;
            }
            each_part(
                isa,
                &call,
                (rows, block..block + 1),
                (&mut buffers.narrow, &mut buffers.wide, scratch),
                #[inline(always)]
                |_, i, part| {
                    let slot = slot * room + i;
                    ends[slot] = part.keep(&mut values[slot * features..][..features]);
                },
            );
        }
    }
}

impl BlockResult<'_> {
    /// Writes the weighted sums of the values into `values`. Returns the largest logit and the sum of exponentials. If
    /// a logit is NaN or +inf, the returned largest logit has this value.
    #[inline(always)]
    fn keep(self, values: &mut [f64]) -> End {
        match self {
            BlockResult::Empty => End { max: f64::NEG_INFINITY, sum: 0.0 },
            BlockResult::Spoilt(logit) => End { max: logit, sum: 0.0 },
            BlockResult::Narrow(end, from) => {
                values.iter_mut().zip(from).for_each(|(to, value)| *to = f64::from(*value));
                end
            }
            BlockResult::Wide(end, from) => {
                values.copy_from_slice(from);
                end
            }
        }
    }
}
