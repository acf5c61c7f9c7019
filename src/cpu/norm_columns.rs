//! Gradients of weights and biases: for each column a sum over all rows, by the tiled sum.
//!
//! A first pass computes the moments of every row. A second pass sums a group of columns at a time over all rows. Row r
//! of a tile belongs to lane r mod 64 of the tiled sum. The lanes are computed in order and added in pairs, so at most
//! seven partial sums are stored at a time. A new lane is added to the stored sums while the lane is in registers. The
//! sums of the tiles are added in the same way. Groups of columns are independent, so they are split over threads,
//! whatever the number of rows.

use super::moments::{Moments, unit_for};
use super::norm_backward::Norm;
use crate::element::Element;
use crate::error::Result;
use crate::math::sum::{SUM_LANES, TILE};
use crate::rows::Rows;
use crate::simd::{self, BLOCK, Float, Isa, Kernel, PrefetchRow, Work};
use std::ops::Add;

/// Returns the moments of every row.
pub fn moments<E: Element>(x: Rows<'_, E>, norm: Norm<'_>) -> Result<Vec<Moments>> {
    let mut moments = simd::filled(norm.op(), "the moments of each row", x.rows(), Moments::default())?;
    simd::run(EachRow { x, first: 0, norm, to: &mut moments })?;
    Ok(moments)
}

struct EachRow<'a, E> {
    x: Rows<'a, E>,
    first: usize,
    norm: Norm<'a>,
    to: &'a mut [Moments],
}

impl<E: Element> Work for EachRow<'_, E> {
    fn rows(&self) -> usize {
        self.to.len()
    }

    fn cols(&self) -> usize {
        self.x.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let EachRow { x, first, norm, to } = self;
        let (a, b) = to.split_at_mut(at);
        (EachRow { x, first, norm, to: a }, EachRow { x, first: first + at, norm, to: b })
    }
}

impl<E: Element> Kernel for EachRow<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (i, to) in self.to.iter_mut().enumerate() {
            *to = self.norm.moments(isa, self.x.row(self.first + i));
        }
    }
}

/// Sums each column over all rows: dy times the normalised x into `of_weight`, and dy into `of_bias`.
pub fn sums<E: Element>(
    [x, dy]: [Rows<'_, E>; 2],
    norm: Norm<'_>,
    moments: &[Moments],
    [of_weight, of_bias]: [&mut [f64]; 2],
) -> Result<()> {
    simd::run(Columns { x, dy, rounded: norm.rounded, moments, first: 0, of_weight, of_bias })
}

/// Number of columns summed at a time. Memory is then read in contiguous runs, and the sums stay in the first-level
/// cache.
const WIDTH: usize = 256;

/// Number of blocks in a run of columns.
const BLOCKS: usize = WIDTH / BLOCK;

struct Columns<'a, E> {
    x: Rows<'a, E>,
    dy: Rows<'a, E>,
    rounded: bool,
    moments: &'a [Moments],
    /// Index of the column that belongs to the first number of `of_weight`.
    first: usize,
    /// Destination of the sums of dy times the normalised x; `of_bias` receives the sums of dy.
    of_weight: &'a mut [f64],
    of_bias: &'a mut [f64],
}

impl<E: Element> Work for Columns<'_, E> {
    fn rows(&self) -> usize {
        self.of_weight.len().div_ceil(WIDTH)
    }

    fn cols(&self) -> usize {
        self.x.rows().saturating_mul(WIDTH)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Columns { x, dy, rounded, moments, first, of_weight, of_bias } = self;
        let (weight_a, weight_b) = of_weight.split_at_mut(at * WIDTH);
        let (bias_a, bias_b) = of_bias.split_at_mut(at * WIDTH);
        let part = |first, of_weight, of_bias| Columns { x, dy, rounded, moments, first, of_weight, of_bias };
        (part(first, weight_a, bias_a), part(first + at * WIDTH, weight_b, bias_b))
    }
}

impl<E: Element> Kernel for Columns<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Columns { x, dy, rounded, moments, first, of_weight, of_bias } = self;
        let runs = of_weight.chunks_mut(WIDTH).zip(of_bias.chunks_mut(WIDTH));
        let mut folds = [Fold::<I>::new(isa), Fold::new(isa)];
        for (i, (of_weight, of_bias)) in runs.enumerate() {
            let mut run = Run::<I, E> {
                isa,
                x,
                dy,
                rounded,
                moments,
                first: first + i * WIDTH,
                len: of_weight.len(),
                is_scaled: false,
                units: [isa.f64(1.0); BLOCKS],
                largest: [isa.f64(0.0); BLOCKS],
            };
            // If f64 sums could overflow or underflow, they are computed again with scaled gradients.
            let sums = loop {
                let sums = run.sums(&mut folds);
                if !E::IS_F64 || run.is_scaled || !run.find_units() {
                    break sums;
                }
            };
            for (which, to) in [of_weight, of_bias].into_iter().enumerate() {
                for (b, to) in to.chunks_mut(BLOCK).enumerate() {
                    let sums = isa.array_f64(sums[b][which] / run.units[b] + isa.f64(0.0));
                    to.copy_from_slice(&sums[..to.len()]);
                }
            }
        }
    }
}

/// Sums of dy times the normalised x, and sums of dy, for each block.
type Sums<I> = [[<I as Isa>::F64; 2]; BLOCKS];

/// A group of neighbouring columns across all rows.
struct Run<'a, I: Isa, E> {
    isa: I,
    x: Rows<'a, E>,
    dy: Rows<'a, E>,
    rounded: bool,
    moments: &'a [Moments],
    first: usize,
    len: usize,
    is_scaled: bool,
    /// One power of two for each column, so that f64 sums neither overflow nor underflow. `largest` holds each column's
    /// largest |dy|.
    units: [I::F64; BLOCKS],
    largest: [I::F64; BLOCKS],
}

impl<'r, I: Isa, E: Element> Run<'r, I, E> {
    /// Sets the units from the largest magnitudes. Returns whether any unit differs from 1, which is rare.
    #[inline(always)]
    fn find_units(&mut self) -> bool {
        let mut found = false;
        for (units, largest) in self.units.iter_mut().zip(self.largest) {
            let mut each = self.isa.array_f64(largest);
            for unit in &mut each {
                *unit = unit_for(*unit);
                found |= *unit != 1.0;
            }
            *units = self.isa.load_f64(&each);
        }
        self.is_scaled = found;
        found
    }

    /// Sums all rows by the tiled sum, in tiles of 256 rows.
    #[inline(always)]
    fn sums(&mut self, [of_rows, of_tiles]: &mut [Fold<I>; 2]) -> Sums<I> {
        let tiles = self.x.rows().div_ceil(TILE);
        for lane in 0..SUM_LANES.min(tiles) {
            let mut sums = [[self.isa.f64(0.0); 2]; BLOCKS];
            for tile in (lane..tiles).step_by(SUM_LANES) {
                let more = self.tile(tile, of_rows);
                if tile == lane {
                    sums = more;
                    continue;
                }
                for (sums, more) in sums.iter_mut().zip(more) {
                    add(sums, &more);
                }
            }
            if tiles == 1 {
                return sums;
            }
            let mut push = of_tiles.push();
            for (b, sums) in sums.into_iter().enumerate() {
                push(b, sums);
            }
        }
        of_tiles.finish()
    }

    /// Sums the rows of one tile.
    #[inline(always)]
    fn tile(&mut self, tile: usize, fold: &mut Fold<I>) -> Sums<I> {
        let rows = tile * TILE..self.x.rows().min((tile + 1) * TILE);
        for lane in 0..SUM_LANES.min(rows.len()) {
            self.lane(rows.start + lane, (rows.len() - lane).div_ceil(SUM_LANES), fold);
        }
        fold.finish()
    }

    /// Sums one lane of a tile (up to four rows that are 64 apart), and adds the sum to `fold`.
    #[inline(always)]
    fn lane(&mut self, first: usize, rows: usize, fold: &mut Fold<I>) {
        const MOST: usize = TILE / SUM_LANES;
        let (mut x, mut dy, mut moments): ([&[E]; MOST], [&[E]; MOST], _) =
            ([&[]; MOST], [&[]; MOST], [Moments::default(); MOST]);
        let mut next = [[PrefetchRow::of(&[], 0); 2]; MOST];
        let part = |of: &Rows<'r, E>, row| &of.row(row)[self.first..][..self.len];
        for i in 0..rows.min(MOST) {
            let row = first + i * SUM_LANES;
            (x[i], dy[i], moments[i]) = (part(&self.x, row), part(&self.dy, row), self.moments[row]);
            // A run of columns is too short for the hardware prefetcher to predict the read of the same columns in the
            // next row.
            let row = (row + 1).min(self.x.rows() - 1);
            next[i] = [PrefetchRow::of(part(&self.x, row), 0), PrefetchRow::of(part(&self.dy, row), 0)];
        }
        let moments = &moments[..rows.min(MOST)];
        let (whole, rest) = (self.len / BLOCK, self.len % BLOCK);
        let mut push = fold.push();
        for b in 0..whole {
            let sums = self.block(
                b,
                moments,
                #[inline(always)]
                |i| {
                    next[i][0].block(b);
                    next[i][1].block(b);
                    [&x[i].as_chunks().0[b], &dy[i].as_chunks().0[b]]
                },
            );
            push(b, sums);
        }
        if rest > 0 {
            let mut last = [[[E::ZERO; BLOCK]; 2]; MOST];
            for i in 0..moments.len() {
                last[i][0][..rest].copy_from_slice(&x[i][whole * BLOCK..]);
                last[i][1][..rest].copy_from_slice(&dy[i][whole * BLOCK..]);
            }
            let sums = self.block(
                whole,
                moments,
                #[inline(always)]
                |i| last[i].each_ref(),
            );
            push(whole, sums);
        }
    }

    /// Sums a block of columns over several rows. `moments` has the moments of these rows. `at(i)` returns the blocks
    /// of x and dy for the i-th of these rows.
    #[inline(always)]
    fn block<'b>(&mut self, b: usize, moments: &[Moments], at: impl Fn(usize) -> [&'b [E; BLOCK]; 2]) -> [I::F64; 2] {
        let isa = self.isa;
        let (mut of_weight, mut of_bias) = (isa.f64(0.0), isa.f64(0.0));
        for (i, moments) in moments.iter().enumerate() {
            let [x, dy] = at(i);
            let mut dy = E::load_wide(isa, dy);
            if E::IS_F64 {
                self.largest[b] = dy.abs().max(self.largest[b]);
                dy = dy * self.units[b];
            }
            let n = moments.normalise::<I, E, true>(isa, E::load_wide(isa, x));
            let n = if self.rounded { E::round_wide(isa, n) } else { n };
            of_weight = of_weight + dy * n;
            of_bias = of_bias + dy;
        }
        [of_weight, of_bias]
    }
}

/// The six pairwise folds of the tiled sum, for lanes that arrive in order. A missing lane counts as +0, which changes
/// no sum.
struct Fold<I: Isa> {
    /// Entry `level` holds the sum of 2^level lanes, until the sum of the next 2^level lanes is added to it.
    waiting: [Sums<I>; LEVELS],
    lanes: usize,
}

/// Number of fold levels: sums of 1, 2, 4 .. 64 lanes.
const LEVELS: usize = SUM_LANES.ilog2() as usize + 1;

impl<I: Isa> Fold<I> {
    #[inline(always)]
    fn new(isa: I) -> Self {
        Fold { waiting: [[[isa.f64(0.0); 2]; BLOCKS]; LEVELS], lanes: 0 }
    }

    /// Begins the next lane, and returns a function to call once for each block of this lane. The function adds the
    /// stored sums of earlier lanes to the block, and stores the result.
    #[inline(always)]
    fn push(&mut self) -> impl FnMut(usize, [I::F64; 2]) {
        let level = self.lanes.trailing_ones() as usize;
        self.lanes += 1;
        let (before, to) = self.waiting.split_at_mut(level);
        #[inline(always)]
        move |b, mut sums| {
            for waiting in &*before {
                add(&mut sums, &waiting[b]);
            }
            to[0][b] = sums;
        }
    }

    /// Returns the sum of all lanes and resets the fold.
    #[inline(always)]
    fn finish(&mut self) -> Sums<I> {
        let level = self.lanes.trailing_zeros() as usize;
        let mut sums = self.waiting[level.min(LEVELS - 1)];
        for level in level + 1..LEVELS {
            if self.lanes >> level & 1 == 1 {
                for (sums, waiting) in sums.iter_mut().zip(&self.waiting[level]) {
                    add(sums, waiting);
                }
            }
        }
        self.lanes = 0;
        sums
    }
}

/// Adds `other` to `to`. Addition is commutative, so the order of the two operands does not matter.
#[inline(always)]
fn add<B: Copy + Add<Output = B>>(to: &mut [B; 2], other: &[B; 2]) {
    *to = [to[0] + other[0], to[1] + other[1]];
}
