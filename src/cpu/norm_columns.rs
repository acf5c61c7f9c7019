//! The gradients of weights and biases: sums over all rows, a column each, by rule O.
//!
//! Rows are normalised once, by moments that one pass over them leaves. Then a run of columns is summed at a time, down
//! all rows: rule O folds neighbouring lanes, so lanes are taken in order, each with the rows that it adds, and what is
//! kept are the sums that wait for their neighbour, seven at most. A second such fold takes the tiles. Runs of columns
//! do not depend on one another, so threads share them whatever the number of rows.

use super::moments::{Moments, unit_for};
use super::norm_backward::Norm;
use crate::element::{DType, Element};
use crate::error::Result;
use crate::math::sum::{SUM_LANES, TILE};
use crate::rows::Rows;
use crate::simd::{self, Float, Isa, LANES, Work};
use std::ops::Add;

/// The moments of every row.
pub fn moments<E: Element>(x: Rows<'_, E>, norm: Norm<'_>) -> Result<Vec<Moments>> {
    let mut moments = vec![Moments::default(); x.rows()];
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
    type Out = ();

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

    fn join((): (), (): ()) {}

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (i, to) in self.to.iter_mut().enumerate() {
            *to = self.norm.moments(isa, self.x.row(self.first + i));
        }
    }
}

/// The sums over rows of dy n, and of dy.
pub fn sums<E: Element>(
    [x, dy]: [Rows<'_, E>; 2],
    norm: Norm<'_>,
    moments: &[Moments],
    [of_weight, of_bias]: [&mut [f64]; 2],
) -> Result<()> {
    simd::run(Columns { x, dy, rounded: norm.rounded, moments, first: 0, of_weight, of_bias })
}

/// Columns that are summed at a time: long enough for memory to be read in runs, few enough for the sums to stay in
/// the first-level cache.
const WIDTH: usize = 256;

/// Blocks in a run.
const BLOCKS: usize = WIDTH / LANES;

struct Columns<'a, E> {
    x: Rows<'a, E>,
    dy: Rows<'a, E>,
    rounded: bool,
    moments: &'a [Moments],
    /// The first column of this part.
    first: usize,
    /// Where its sums go.
    of_weight: &'a mut [f64],
    of_bias: &'a mut [f64],
}

impl<E: Element> Work for Columns<'_, E> {
    type Out = ();

    fn rows(&self) -> usize {
        self.of_weight.len().div_ceil(WIDTH)
    }

    fn cols(&self) -> usize {
        WIDTH * self.x.rows()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Columns { x, dy, rounded, moments, first, of_weight, of_bias } = self;
        let (weight_a, weight_b) = of_weight.split_at_mut(at * WIDTH);
        let (bias_a, bias_b) = of_bias.split_at_mut(at * WIDTH);
        let part = |first, of_weight, of_bias| Columns { x, dy, rounded, moments, first, of_weight, of_bias };
        (part(first, weight_a, bias_a), part(first + at * WIDTH, weight_b, bias_b))
    }

    fn join((): (), (): ()) {}

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Columns { x, dy, rounded, moments, first, of_weight, of_bias } = self;
        let runs = of_weight.chunks_mut(WIDTH).zip(of_bias.chunks_mut(WIDTH));
        for (i, (of_weight, of_bias)) in runs.enumerate() {
            let mut run = Run::<I, E> {
                isa,
                x,
                dy,
                rounded,
                moments,
                first: first + i * WIDTH,
                len: of_weight.len(),
                units: [isa.f64(1.0); BLOCKS],
                largest: [isa.f64(0.0); BLOCKS],
            };
            let mut sums = run.sums();
            if E::DTYPE == DType::F64 && run.find_units() {
                sums = run.sums();
            }
            for (to, sums) in [of_weight, of_bias].into_iter().zip(sums) {
                for (b, to) in to.chunks_mut(LANES).enumerate() {
                    let sums = isa.array_f64(sums[b] / run.units[b] + isa.f64(0.0));
                    to.copy_from_slice(&sums[..to.len()]);
                }
            }
        }
    }
}

/// Blocks of sums over dy n, and over dy.
type Sums<I> = [[<I as Isa>::F64; BLOCKS]; 2];

/// A run of columns of all rows.
struct Run<'a, I: Isa, E> {
    isa: I,
    x: Rows<'a, E>,
    dy: Rows<'a, E>,
    rounded: bool,
    moments: &'a [Moments],
    first: usize,
    len: usize,
    /// Powers of two that bring columns of f64 to where sums neither overflow nor vanish, and the largest |dy| of each.
    units: [I::F64; BLOCKS],
    largest: [I::F64; BLOCKS],
}

impl<I: Isa, E: Element> Run<'_, I, E> {
    /// The units that the largest magnitudes ask for; whether any is not 1, as is hardly ever so.
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
        found
    }

    /// Rule O over the tiles of 256 rows.
    #[inline(always)]
    fn sums(&mut self) -> Sums<I> {
        let zero = [[self.isa.f64(0.0); BLOCKS]; 2];
        let tiles = self.x.rows().div_ceil(TILE);
        let (mut of_tiles, mut of_rows) = (Fold::<I>::new(zero), Fold::<I>::new(zero));
        for lane in 0..SUM_LANES.min(tiles) {
            of_tiles.next = zero;
            for tile in (lane..tiles).step_by(SUM_LANES) {
                let rows = tile * TILE..self.x.rows().min((tile + 1) * TILE);
                for lane in 0..SUM_LANES.min(rows.len()) {
                    self.lane(rows.start + lane, (rows.len() - lane).div_ceil(SUM_LANES), &mut of_rows.next);
                    of_rows.push();
                }
                add(&mut of_tiles.next, &of_rows.finish());
            }
            of_tiles.push();
        }
        of_tiles.finish()
    }

    /// The sums of up to four rows, 64 apart.
    #[inline(always)]
    fn lane(&mut self, first: usize, rows: usize, to: &mut Sums<I>) {
        const MOST: usize = TILE / SUM_LANES;
        let (mut x, mut dy, mut moments): ([&[E]; MOST], [&[E]; MOST], _) =
            ([&[]; MOST], [&[]; MOST], [Moments::default(); MOST]);
        for i in 0..rows.min(MOST) {
            let row = first + i * SUM_LANES;
            x[i] = &self.x.row(row)[self.first..][..self.len];
            dy[i] = &self.dy.row(row)[self.first..][..self.len];
            moments[i] = self.moments[row];
        }
        let (whole, rest) = (self.len / LANES, self.len % LANES);
        let [to_weight, to_bias] = to;
        for (b, (to_weight, to_bias)) in to_weight.iter_mut().zip(&mut *to_bias).take(whole).enumerate() {
            (*to_weight, *to_bias) = self.block(
                b,
                &moments[..rows.min(MOST)],
                #[inline(always)]
                |i| [&x[i].as_chunks().0[b], &dy[i].as_chunks().0[b]],
            );
        }
        if rest > 0 {
            let mut last = [[[E::ZERO; LANES]; 2]; MOST];
            for i in 0..rows.min(MOST) {
                last[i][0][..rest].copy_from_slice(&x[i][whole * LANES..]);
                last[i][1][..rest].copy_from_slice(&dy[i][whole * LANES..]);
            }
            (to_weight[whole], to_bias[whole]) = self.block(
                whole,
                &moments[..rows.min(MOST)],
                #[inline(always)]
                |i| last[i].each_ref(),
            );
        }
    }

    /// The sums of a block of columns over the rows of these moments, of which `at` yields x and dy.
    #[inline(always)]
    fn block<'b>(
        &mut self,
        b: usize,
        moments: &[Moments],
        at: impl Fn(usize) -> [&'b [E; LANES]; 2],
    ) -> (I::F64, I::F64) {
        let isa = self.isa;
        let (mut of_weight, mut of_bias) = (isa.f64(0.0), isa.f64(0.0));
        for (i, moments) in moments.iter().enumerate() {
            let [x, dy] = at(i);
            let mut dy = E::load_wide(isa, dy);
            if E::DTYPE == DType::F64 {
                self.largest[b] = dy.abs().max(self.largest[b]);
                dy = dy * self.units[b];
            }
            let n = moments.normalise::<I, E, true>(isa, E::load_wide(isa, x));
            let n = if self.rounded { E::round_wide(isa, n) } else { n };
            of_weight = of_weight + dy * n;
            of_bias = of_bias + dy;
        }
        (of_weight, of_bias)
    }
}

/// The six folds of rule O, of lanes that come one after the other. A lane that does not come is +0, which changes no
/// sum.
struct Fold<I: Isa> {
    /// Where the next lane is put.
    next: Sums<I>,
    /// The sums of 2^level lanes that wait for their neighbours.
    waiting: [Sums<I>; LEVELS],
    lanes: usize,
}

/// Sums of 1, 2, 4 .. 64 lanes.
const LEVELS: usize = SUM_LANES.ilog2() as usize + 1;

impl<I: Isa> Fold<I> {
    #[inline(always)]
    fn new(zero: Sums<I>) -> Self {
        Fold { next: zero, waiting: [zero; LEVELS], lanes: 0 }
    }

    /// Folds the next lane with those that wait for it.
    #[inline(always)]
    fn push(&mut self) {
        let mut level = 0;
        while self.lanes >> level & 1 == 1 {
            add(&mut self.next, &self.waiting[level]);
            level += 1;
        }
        self.waiting[level] = self.next;
        self.lanes += 1;
    }

    /// The sum of all lanes; the next is the first again.
    #[inline(always)]
    fn finish(&mut self) -> Sums<I> {
        let level = self.lanes.trailing_zeros() as usize;
        let mut sums = self.waiting[level.min(LEVELS - 1)];
        for level in level + 1..LEVELS {
            if self.lanes >> level & 1 == 1 {
                add(&mut sums, &self.waiting[level]);
            }
        }
        self.lanes = 0;
        sums
    }
}

/// Addition commutes, so it does not matter which of two neighbours was first.
#[inline(always)]
fn add<B: Copy + Add<Output = B>>(to: &mut [[B; BLOCKS]; 2], other: &[[B; BLOCKS]; 2]) {
    for (to, other) in to.as_flattened_mut().iter_mut().zip(other.as_flattened()) {
        *to = *to + *other;
    }
}
