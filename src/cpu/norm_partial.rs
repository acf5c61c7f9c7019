//! Statistics of rows that are sharded at multiples of 256 columns. The statistics are computed in rounds, until the
//! moments of each row are known. Together, the rounds give the same moments as [`Moments`] does for a complete row.
//! Each round adds whole tiles of 256 columns.

use super::each_row::{OfRow, each_row};
use super::lanes::{GuardCounts, LaneKernel, RowIo};
use super::moments::{Kept, Moments, about, largest, refined_mean, squares, totals, totals_and_squares, unit_for};
use super::norm_rows::{Norm, write_rows};
use super::scratch::Scratch;
use super::short_rows::GroupMoments;
use super::smallest::Least;
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
#[cfg(feature = "sharded")]
use crate::math::keys;
use crate::math::sum::{TILE, sum_of_tiles, tiles_o};
use crate::rows::Rows;
use crate::simd::{BLOCK, Isa, PrefetchSpan, Span, Written};

/// Kind of norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rms,
    Layer,
}

/// Statistics of a row that are known so far. They decide what the next round computes.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// No statistics are known, which occurs only for f64. The next round finds the largest magnitude.
    Nothing,
    /// The unit, a power of two that scales the elements, is known. The next round sums the elements, their squares or
    /// both, as the norm and the type require.
    Unit(f64),
    /// A provisional f64 mean is known. The next round sums the deviations from this mean.
    Mean { unit: f64, mean: f64 },
    /// The mean is known, as a high and a low part. The next round sums the squared deviations from the mean and, for
    /// types narrower than f64, also the deviations.
    Centre { unit: f64, mean: [f64; 2] },
    /// All moments are known. No round follows.
    Moments(Moments),
}

/// Statistics of a shard. Merging all shards gives the statistics of the complete row.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardStats {
    largest: f64,
    least: Least,
    tiles: Vec<SomeTiles>,
}

/// Sums of consecutive tiles.
#[derive(Clone, Debug, PartialEq)]
struct SomeTiles {
    first: usize,
    sums: Vec<f64>,
    /// Sum of squares of each tile, if two sums were requested for each tile; otherwise empty.
    squares: Vec<f64>,
}

impl ShardStats {
    const NOTHING: Self = ShardStats { largest: 0.0, least: Least::NOTHING, tiles: Vec::new() };

    /// Merges the statistics of another shard into the statistics of this shard.
    pub fn merge(&mut self, other: Self) {
        self.largest = self.largest.max(other.largest);
        self.least = self.least.merge(other.least);
        self.tiles.extend(other.tiles);
    }

    /// Returns the sums over the row. All shards must have been merged.
    fn sums(&self) -> [f64; 2] {
        let mut tiles: Vec<&SomeTiles> = self.tiles.iter().collect();
        tiles.sort_by_key(|tiles| tiles.first);
        let sums: Vec<f64> = tiles.iter().flat_map(|tiles| tiles.sums.iter().copied()).collect();
        let squares: Vec<f64> = tiles.iter().flat_map(|tiles| tiles.squares.iter().copied()).collect();
        [sum_of_tiles(&sums), sum_of_tiles(&squares)]
    }
}

/// Number of integers that ranks exchange in a max-reduction of statistics.
#[cfg(feature = "sharded")]
pub const KEYS: usize = 3;

#[cfg(feature = "sharded")]
impl ShardStats {
    /// Returns integers for a max-reduction. Their maxima over all ranks encode the merged statistics.
    pub fn keys(&self) -> [u64; KEYS] {
        // If the smallest magnitude is `stepped` (see [`Least`]), the second integer holds it and the third is 0.
        // Otherwise the third integer holds it and the second is 0. The bits are inverted, so that the maximum selects
        // the smallest magnitude. A NaN is ignored, as in [`ShardStats::merge`].
        let least = |stepped: bool| {
            let there = self.least.stepped == stepped && !self.least.value.is_nan();
            if there { !keys::of_f64(self.least.value) } else { 0 }
        };
        [keys::of_f64(self.largest.max(0.0)), least(true), least(false)]
    }

    /// Decodes the largest and the smallest magnitude of the complete row. The arguments are the maxima of
    /// [`ShardStats::keys`] over all ranks. The keys hold the smallest magnitudes with inverted bits, so the maximum of
    /// these keys belongs to the smallest magnitude of all.
    pub fn take_keys(&mut self, [largest, stepped, other]: [u64; KEYS]) {
        let of_key = |key: u64, stepped: bool| match key {
            0 => Least { stepped, ..Least::NOTHING },
            key => Least { value: keys::to_f64(!key), stepped },
        };
        self.largest = keys::to_f64(largest);
        self.least = of_key(other, false).merge(of_key(stepped, stepped > 0));
    }

    /// Appends the tile sums as bits. If each tile has two sums, a run of consecutive tiles gives the first sums of all
    /// its tiles, then their second sums.
    pub fn to_words(&self, words: &mut Vec<u64>) {
        for SomeTiles { sums, squares, .. } in &self.tiles {
            words.extend(sums.iter().chain(squares).map(|sum| sum.to_bits()));
        }
    }

    /// Removes the tiles of this shard.
    pub fn drop_tiles(&mut self) {
        self.tiles.clear();
    }

    /// Adds `count` tiles, decoded from `words`. `first` is the index of the first of these tiles.
    pub fn add_words(&mut self, words: &[u64], first: usize, count: usize) {
        let numbers = |words: &[u64]| words.iter().map(|bits| f64::from_bits(*bits)).collect();
        let (sums, squares) = words.split_at(count.min(words.len()));
        self.tiles.push(SomeTiles { first, sums: numbers(sums), squares: numbers(squares) });
    }
}

/// Request for one round of statistics on shards of rows.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub kind: Kind,
    pub eps: f64,
    pub known: &'a [Known],
    /// First column of the shard, a multiple of 256.
    pub first: usize,
}

impl PartialEq for Known {
    /// Compares the statistics as numbers. A NaN equals a NaN.
    fn eq(&self, other: &Self) -> bool {
        let numbers = |known: &Known| match *known {
            Known::Nothing => (0, [0.0; 7]),
            Known::Unit(unit) => (1, [unit, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            Known::Mean { unit, mean } => (2, [unit, mean, 0.0, 0.0, 0.0, 0.0, 0.0]),
            Known::Centre { unit, mean: [mean, low] } => (3, [unit, mean, low, 0.0, 0.0, 0.0, 0.0]),
            Known::Moments(moments) => (4, moments.numbers()),
        };
        let ((a, of_a), (b, of_b)) = (numbers(self), numbers(other));
        a == b && of_a.iter().zip(of_b).all(|(a, b)| *a == b || a.is_nan() && b.is_nan())
    }
}

impl Known {
    /// Returns the state before the first round, for rows of this type.
    pub fn at_first<E: Element>() -> Self {
        // Only squares of f64 can overflow or underflow, so only f64 needs a unit.
        if E::IS_F64 { Known::Nothing } else { Known::Unit(1.0) }
    }

    /// Returns how many sums the next round computes for each tile.
    #[cfg(feature = "sharded")]
    pub fn sums<E: Element>(&self, kind: Kind) -> usize {
        match self {
            Known::Nothing | Known::Moments(_) => 0,
            Known::Unit(_) | Known::Centre { .. } if kind == Kind::Layer && !E::IS_F64 => 2,
            _ => 1,
        }
    }

    /// Returns whether the next round needs a max-reduction.
    #[cfg(feature = "sharded")]
    pub fn asks_for_maxima(&self, kind: Kind) -> bool {
        matches!(self, Known::Nothing) || kind == Kind::Rms && matches!(self, Known::Unit(_))
    }

    /// Returns the state of a row of `len` columns after a round; `found` holds the merged statistics of all shards.
    pub fn after<E: Element>(self, kind: Kind, eps: f64, len: usize, found: &ShardStats) -> Self {
        let [sum, squares] = found.sums();
        match self {
            Known::Nothing => Known::Unit(unit_for(found.largest)),
            Known::Unit(unit) if kind == Kind::Rms => {
                Known::Moments(Moments::of_squares::<E>(len, eps, unit, sum, found.least))
            }
            Known::Unit(unit) if E::IS_F64 => Known::Mean { unit, mean: sum / len as f64 },
            Known::Unit(unit) => match Moments::of_one_pass::<E>(len, eps, [sum, squares]) {
                Ok(moments) => Known::Moments(moments),
                Err(mean) => Known::Centre { unit, mean },
            },
            Known::Mean { unit, mean } => Known::Centre { unit, mean: refined_mean(len, mean, sum) },
            Known::Centre { unit, mean } if E::IS_F64 => {
                Known::Moments(Moments::of_squared_deviations::<E>(len, eps, unit, mean, sum))
            }
            Known::Centre { mean, .. } => Known::Moments(Moments::of_deviations::<E>(len, eps, mean, [sum, squares])),
            Known::Moments(moments) => Known::Moments(moments),
        }
    }
}

/// Computes the requested statistics of each row's shard.
pub fn ask<E: Element>(x: Rows<'_, E>, question: Question<'_>) -> Result<Vec<ShardStats>> {
    each_row(x, ShardStats::NOTHING, question)
}

impl<E: Element> OfRow<E> for Question<'_> {
    type Out = ShardStats;

    fn op(&self) -> &'static str {
        match self.kind {
            Kind::Rms => "rms_norm",
            Kind::Layer => "layer_norm",
        }
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], _: &mut Scratch) -> ShardStats {
        let first = self.first / TILE;
        let one = |tiles: Vec<[f64; 1]>| {
            let sums = tiles.into_iter().map(|[sum]| sum).collect();
            ShardStats { tiles: vec![SomeTiles { first, sums, squares: Vec::new() }], ..ShardStats::NOTHING }
        };
        let both = |tiles: Vec<[f64; 2]>| {
            let (sums, squares) = tiles.into_iter().map(|[sum, square]| (sum, square)).unzip();
            ShardStats { tiles: vec![SomeTiles { first, sums, squares }], ..ShardStats::NOTHING }
        };
        match self.known[row] {
            Known::Nothing => ShardStats { largest: largest(isa, x, self.eps.sqrt()), ..ShardStats::NOTHING },
            Known::Unit(unit) if self.kind == Kind::Rms => {
                let (sums, least) = squares::<I, E, Tiles>(isa, x, PrefetchSpan::none(), unit);
                ShardStats { least, ..one(sums) }
            }
            Known::Unit(unit) if E::IS_F64 => one(totals::<I, E, Tiles>(isa, x, unit)),
            Known::Unit(_) => both(totals_and_squares::<I, E, Tiles>(isa, x, PrefetchSpan::none())),
            Known::Mean { unit, mean } => one(about::<I, E, Tiles, 1, 1>(isa, x, unit, [mean, 0.0])),
            Known::Centre { unit, mean } if E::IS_F64 => one(about::<I, E, Tiles, 2, 1>(isa, x, unit, mean)),
            Known::Centre { unit, mean } => both(about::<I, E, Tiles, 1, 2>(isa, x, unit, mean)),
            Known::Moments(_) => ShardStats::NOTHING,
        }
    }
}

/// Norm applied to the shard of rows that begins at column `first`, with known moments.
#[derive(Clone, Copy)]
pub struct ShardNorm<'a, N> {
    /// Norm with the operands of all columns.
    pub norm: N,
    pub moments: &'a [Moments],
    pub first: usize,
}

impl<N: Norm> Norm for ShardNorm<'_, N> {
    #[inline(always)]
    fn operands(&self) -> [Option<Floats<'_>>; 2] {
        self.norm.operands()
    }

    #[inline(always)]
    fn moments<I: Isa, E: Element>(&self, _: I, row: usize, _: &[E], _: PrefetchSpan<E, E>) -> Moments {
        self.moments[row]
    }

    #[inline(always)]
    fn next<E: Element>(&self, span: &Span<'_, '_, E, E>, lanes: usize) -> [PrefetchSpan<E, E>; 2] {
        [PrefetchSpan::none(), span.next(lanes)]
    }

    fn first_column(&self) -> usize {
        self.first
    }

    #[inline(always)]
    fn value<I: Isa, E: Element>(&self, isa: I, moments: &Moments, v: I::F64, weight: I::F64, bias: I::F64) -> I::F64 {
        self.norm.value::<I, E>(isa, moments, v, weight, bias)
    }

    fn together<E: Element>(&self) -> usize {
        self.norm.together::<E>()
    }

    #[inline(always)]
    fn is_narrow<I: Isa, E: Element>(&self, isa: I) -> bool {
        self.norm.is_narrow::<I, E>(isa)
    }

    #[inline(always)]
    fn factors<E: Element>(&self, moments: &Moments) -> Option<[f32; 3]> {
        self.norm.factors::<E>(moments)
    }

    #[inline(always)]
    fn factors_of_group<I: Isa, E: Element>(&self, isa: I, moments: &GroupMoments<I>) -> ([I::F32; 3], I::M64) {
        self.norm.factors_of_group::<I, E>(isa, moments)
    }

    #[inline(always)]
    fn narrow_value<I: Isa, E: Element>(
        &self,
        isa: I,
        factors: [I::F32; 3],
        v: I::F32,
        weight: I::F32,
        bias: I::F32,
    ) -> I::F32 {
        self.norm.narrow_value::<I, E>(isa, factors, v, weight, bias)
    }
}

impl<E: Element, N: Norm + Send + Sync> LaneKernel<E> for ShardNorm<'_, N> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        write_rows(isa, *self, io, scratch, guards)
    }
}

/// Selects one sum for each tile of a shard. The tiles of all shards are added later.
pub struct Tiles;

impl Kept for Tiles {
    type Sums<const N: usize> = Vec<[f64; N]>;

    #[inline(always)]
    fn sums<I: Isa, E: Element, const N: usize>(
        isa: I,
        x: &[E],
        add: impl FnMut(usize, &[E; BLOCK], [I::F64; N]) -> [I::F64; N],
    ) -> Vec<[f64; N]> {
        tiles_o(isa, x, E::ZERO, add)
    }
}
