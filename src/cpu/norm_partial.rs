//! What norms ask of rows whose columns are cut at multiples of 256, question by question, until the moments of the row
//! are known: those that [`Moments`] asks of a row that is whole, by tiles of rule O.

use super::each_row::{OfRow, each_row};
use super::lanes::{Ends, LaneKernel, Met};
use super::moments::{Kept, Moments, about, largest, refined_mean, squares, totals, totals_and_squares, unit_for};
use super::norm_rows::{Norm, write_rows};
use super::scratch::Scratch;
use super::smallest::Least;
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::math::sum::{TILE, sum_of_tiles, tiles_o};
use crate::rows::Rows;
#[cfg(feature = "sharded")]
use crate::sharded::keys;
use crate::simd::{Isa, LANES, Written};
use std::ops::Range;

/// Which norm it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rms,
    Layer,
}

/// What is known of a row, and by that what is asked next.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// Nothing of f64: the largest magnitude.
    Nothing,
    /// The unit: the sum, or that of squares, or both.
    Unit(f64),
    /// The mean of f64 as a first sum has it: what it is off by.
    Mean { unit: f64, mean: f64 },
    /// The mean, in two parts: the squares of the deviations, and of types narrower than f64 their sum.
    Centre { unit: f64, mean: [f64; 2] },
    /// All: nothing.
    Moments(Moments),
}

/// What part of a row answers; merged, what all of it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    largest: f64,
    least: Least,
    tiles: Vec<SomeTiles>,
}

/// Sums of some tiles side by side.
#[derive(Clone, Debug, PartialEq)]
struct SomeTiles {
    first: usize,
    sums: Vec<f64>,
    /// A second sum, where it was asked for.
    squares: Vec<f64>,
}

impl Found {
    const NOTHING: Self = Found { largest: 0.0, least: Least::NOTHING, tiles: Vec::new() };

    /// What both answer.
    pub fn merge(&mut self, other: Self) {
        self.largest = self.largest.max(other.largest);
        self.least = self.least.merge(other.least);
        self.tiles.extend(other.tiles);
    }

    /// The sums of the row, of which this is all.
    fn sums(&self) -> [f64; 2] {
        let mut tiles: Vec<&SomeTiles> = self.tiles.iter().collect();
        tiles.sort_by_key(|tiles| tiles.first);
        let sums: Vec<f64> = tiles.iter().flat_map(|tiles| tiles.sums.iter().copied()).collect();
        let squares: Vec<f64> = tiles.iter().flat_map(|tiles| tiles.squares.iter().copied()).collect();
        [sum_of_tiles(&sums), sum_of_tiles(&squares)]
    }
}

/// How many integers go from rank to rank for what is merged by maxima.
#[cfg(feature = "sharded")]
pub const KEYS: usize = 3;

#[cfg(feature = "sharded")]
impl Found {
    /// Integers whose maxima are the keys of what is merged so.
    pub fn keys(&self) -> [u64; KEYS] {
        // The least of either kind, from above; 0 of none. A NaN is passed over, as it is where parts are merged.
        let least = |stepped: bool| {
            let there = self.least.stepped == stepped && !self.least.value.is_nan();
            if there { !keys::of_f64(self.least.value) } else { 0 }
        };
        [keys::of_f64(self.largest.max(0.0)), least(true), least(false)]
    }

    /// Puts the maxima of all parts' keys in the place of what this part has.
    pub fn take_keys(&mut self, [largest, stepped, other]: [u64; KEYS]) {
        let of_key = |key: u64, stepped: bool| match key {
            0 => Least { stepped, ..Least::NOTHING },
            key => Least { value: keys::to_f64(!key), stepped },
        };
        self.largest = keys::to_f64(largest);
        self.least = of_key(other, false).merge(of_key(stepped, stepped > 0));
    }

    /// The sums of all tiles, and behind them the second ones.
    pub fn to_words(&self, words: &mut Vec<u64>) {
        for SomeTiles { sums, squares, .. } in &self.tiles {
            words.extend(sums.iter().chain(squares).map(|sum| sum.to_bits()));
        }
    }

    /// Leaves out the tiles of this part.
    pub fn drop_tiles(&mut self) {
        self.tiles.clear();
    }

    /// Takes up `count` tiles from tile `first` on, of which these are the words.
    pub fn add_words(&mut self, words: &[u64], first: usize, count: usize) {
        let numbers = |words: &[u64]| words.iter().map(|bits| f64::from_bits(*bits)).collect();
        let (sums, squares) = words.split_at(count.min(words.len()));
        self.tiles.push(SomeTiles { first, sums: numbers(sums), squares: numbers(squares) });
    }
}

/// What is asked of parts of rows.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub kind: Kind,
    pub eps: f64,
    pub known: &'a [Known],
    /// The part's first column, a multiple of 256.
    pub first: usize,
}

impl PartialEq for Known {
    /// As numbers, of which NaN is one.
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
    /// What is known of a row of this type to begin with.
    pub fn at_first<E: Element>() -> Self {
        // Of f64 alone squares overflow or vanish.
        if E::IS_F64 { Known::Nothing } else { Known::Unit(1.0) }
    }

    /// How many sums of each tile are asked for.
    #[cfg(feature = "sharded")]
    pub fn sums<E: Element>(&self, kind: Kind) -> usize {
        match self {
            Known::Nothing | Known::Moments(_) => 0,
            Known::Unit(_) | Known::Centre { .. } if kind == Kind::Layer && !E::IS_F64 => 2,
            _ => 1,
        }
    }

    /// Whether something is asked that is merged by maxima.
    #[cfg(feature = "sharded")]
    pub fn asks_for_maxima(&self, kind: Kind) -> bool {
        matches!(self, Known::Nothing) || kind == Kind::Rms && matches!(self, Known::Unit(_))
    }

    /// What is known when all of a row of `len` columns has answered.
    pub fn after<E: Element>(self, kind: Kind, eps: f64, len: usize, found: &Found) -> Self {
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

/// What the part of each row answers.
pub fn ask<E: Element>(x: Rows<'_, E>, question: Question<'_>) -> Result<Vec<Found>> {
    each_row(x, Found::NOTHING, question)
}

impl<E: Element> OfRow<E> for Question<'_> {
    type Out = Found;

    fn op(&self) -> &'static str {
        match self.kind {
            Kind::Rms => "rms_norm",
            Kind::Layer => "layer_norm",
        }
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], _: &mut Scratch) -> Found {
        let first = self.first / TILE;
        let one = |tiles: Vec<[f64; 1]>| {
            let sums = tiles.into_iter().map(|[sum]| sum).collect();
            Found { tiles: vec![SomeTiles { first, sums, squares: Vec::new() }], ..Found::NOTHING }
        };
        let both = |tiles: Vec<[f64; 2]>| {
            let (sums, squares) = tiles.into_iter().map(|[sum, square]| (sum, square)).unzip();
            Found { tiles: vec![SomeTiles { first, sums, squares }], ..Found::NOTHING }
        };
        match self.known[row] {
            Known::Nothing => Found { largest: largest(isa, x, self.eps.sqrt()), ..Found::NOTHING },
            Known::Unit(unit) if self.kind == Kind::Rms => {
                let (sums, least) = squares::<I, E, Tiles>(isa, x, unit);
                Found { least, ..one(sums) }
            }
            Known::Unit(unit) if E::IS_F64 => one(totals::<I, E, Tiles>(isa, x, unit)),
            Known::Unit(_) => both(totals_and_squares::<I, E, Tiles>(isa, x)),
            Known::Mean { unit, mean } => one(about::<I, E, Tiles, 1, 1>(isa, x, unit, [mean, 0.0])),
            Known::Centre { unit, mean } if E::IS_F64 => one(about::<I, E, Tiles, 2, 1>(isa, x, unit, mean)),
            Known::Centre { unit, mean } => both(about::<I, E, Tiles, 1, 2>(isa, x, unit, mean)),
            Known::Moments(_) => Found::NOTHING,
        }
    }
}

/// A norm of the part of rows that begins with a column, whose moments are known.
#[derive(Clone, Copy)]
pub struct Part<'a, N> {
    /// With the operands of all columns.
    pub norm: N,
    pub moments: &'a [Moments],
    pub first: usize,
}

impl<N: Norm> Norm for Part<'_, N> {
    #[inline(always)]
    fn operands(&self) -> [Option<Floats<'_>>; 2] {
        self.norm.operands()
    }

    #[inline(always)]
    fn moments<I: Isa, E: Element>(&self, _: I, row: usize, _: &[E]) -> Moments {
        self.moments[row]
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

impl<E: Element, N: Norm + Send + Sync> LaneKernel<E> for Part<'_, N> {
    #[inline(always)]
    fn lanes<I: Isa>(
        &self,
        isa: I,
        which: Range<usize>,
        ends: &mut Ends<'_, E>,
        len: usize,
        scratch: &mut Scratch,
        met: &mut Met,
    ) -> Written {
        write_rows(isa, *self, ends, which, len, scratch, met)
    }
}

/// The sums of each tile of a part of a row.
pub struct Tiles;

impl Kept for Tiles {
    type Sums<const N: usize> = Vec<[f64; N]>;

    #[inline(always)]
    fn sums<I: Isa, E: Element, const N: usize>(
        isa: I,
        x: &[E],
        add: impl FnMut(usize, &[E; LANES], [I::F64; N]) -> [I::F64; N],
    ) -> Vec<[f64; N]> {
        tiles_o(isa, x, E::ZERO, add)
    }
}
