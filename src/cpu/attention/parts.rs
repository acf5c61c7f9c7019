//! What blocks of keys come to, kept apart until they are merged: so keys can be cut between threads, and between machines,
//! and the order in which blocks are merged stays the same.

use super::merge::{End, Part};
use super::{Attention, KEYS, QUERIES, each_part};
use crate::cpu::scratch;
use crate::element::{DType, Element};
use crate::error::Result;
use crate::simd::{self, Isa, Work};
use std::ops::Range;

/// Blocks of a run of keys, for all rows of a call.
#[derive(Clone, Debug)]
pub struct Parts {
    blocks: Range<usize>,
    /// Rows that each tile has room for.
    rows: usize,
    features: usize,
    /// For each tile, block and row. A maximum of -inf says that there is nothing, NaN or +inf that it is spoilt.
    ends: Vec<End>,
    values: Vec<f64>,
}

/// Whether there are threads to whom the tiles give nothing, and few enough rows to keep the parts of.
pub fn are_worth_it<E: Element>(call: &Attention<'_, E>) -> bool {
    /// Then the parts of a block are some 16th of its keys and values.
    const MOST_ROWS: usize = 16;
    let in_f32 = E::DTYPE != DType::F64;
    let blocks = call.keys().len().div_ceil(KEYS);
    in_f32 && call.tiles() < simd::threads() && blocks > 1 && call.rows_a_head() <= MOST_ROWS
}

impl Parts {
    /// All blocks of the call's keys.
    pub fn of<E: Element>(call: Attention<'_, E>) -> Result<Self> {
        let keys = call.keys();
        let blocks = keys.start / KEYS..keys.end.div_ceil(KEYS);
        let (rows, features) = (QUERIES.min(call.rows_a_head()), call.v.shape()[3]);
        let slots = call.tiles() * blocks.len() * rows;
        let mut ends = vec![End { max: f64::NEG_INFINITY, sum: 0.0 }; slots];
        let mut values = vec![0.0; slots * features];
        let units = 0..call.tiles() * blocks.len();
        let all = blocks.clone();
        simd::run(Blocks { call, blocks: all, units, rows, ends: &mut ends, values: &mut values })?;
        Ok(Parts { blocks, rows, features, ends, values })
    }

    pub fn blocks(&self) -> Range<usize> {
        self.blocks.clone()
    }

    /// What a block came to, for a row by its place in its tile.
    #[inline(always)]
    pub fn part(&self, tile: usize, block: usize, row: usize) -> Part<'_> {
        let slot = (tile * self.blocks.len() + block - self.blocks.start) * self.rows + row;
        let end = self.ends[slot];
        if end.max == f64::NEG_INFINITY {
            Part::Empty
        } else if end.max.is_finite() {
            Part::Wide(end, &self.values[slot * self.features..][..self.features])
        } else {
            Part::Spoilt(end.max)
        }
    }
}

/// The making of parts: a unit is a block of a tile.
struct Blocks<'a, 'o, E> {
    call: Attention<'a, E>,
    blocks: Range<usize>,
    units: Range<usize>,
    rows: usize,
    ends: &'o mut [End],
    values: &'o mut [f64],
}

impl<E: Element> Work for Blocks<'_, '_, E> {
    type Out = ();

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

    fn join((): (), (): ()) {}

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Blocks { call, blocks, units, rows: room, ends, values } = self;
        let features = call.v.shape()[3];
        scratch::with_attention(
            #[inline(always)]
            |buffers| {
                scratch::with(
                    #[inline(always)]
                    |scratch| {
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
                    },
                );
            },
        );
    }
}

impl Part<'_> {
    /// The part's end, NaN or +inf where it is spoilt, and its values into `values`.
    #[inline(always)]
    fn keep(self, values: &mut [f64]) -> End {
        match self {
            Part::Empty => End { max: f64::NEG_INFINITY, sum: 0.0 },
            Part::Spoilt(logit) => End { max: logit, sum: 0.0 },
            Part::Narrow(end, from) => {
                values.iter_mut().zip(from).for_each(|(to, value)| *to = f64::from(*value));
                end
            }
            Part::Wide(end, from) => {
                values.copy_from_slice(from);
                end
            }
        }
    }
}
