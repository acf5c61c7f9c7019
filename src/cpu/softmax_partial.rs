//! Softmax and its logarithm of rows that are in parts: what each part has, then its sum against the maximum of all,
//! then its results. Each step is that of a whole row, so that the bits are.

use super::each_row::{OfRow, each_row};
use super::lanes::{Ends, LaneKernel, Met, each_lane};
use super::log_softmax;
use super::pieces::{self, Piece};
use super::scores::{
    Exps, Live, Logits, Row, Scores, is_peaked, leaves_digits, log_of_units, off_grid, reciprocal_of, sum_of_two,
    sum_on_grid, units_to_f64,
};
use super::scores_masked;
use super::scratch::{Buffers, Scratch, room};
use super::softmax;
use crate::element::{DType, Element};
use crate::error::Result;
use crate::mask::FullyMasked;
use crate::math::log::{log_scalar, log1p_scalar};
use crate::math::sum::unit_bits;
use crate::rows::Rows;
#[cfg(feature = "sharded")]
use crate::sharded::keys;
use crate::simd::{Float, Isa, Select, Span, Written};
use std::ops::Range;

/// The unit of what sums of f64 have on their grid.
const GRID: f64 = 1.0 / (1u64 << 31) as f64;

/// What a part of a row has; merged, what all of it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Of the logits; +inf where there is a NaN.
    max: f64,
    nan: bool,
    /// Whether f32 holds the logits.
    exact: bool,
    masked: scores_masked::Found,
}

impl Found {
    /// In no columns.
    pub const NOTHING: Self =
        Found { max: f64::NEG_INFINITY, nan: false, exact: true, masked: scores_masked::Found::NOTHING };

    /// What both have.
    pub fn merge(self, other: Self) -> Self {
        Found {
            max: self.max.max(other.max),
            nan: self.nan || other.nan,
            exact: self.exact && other.exact,
            masked: self.masked.merge(other.masked),
        }
    }

    /// What a part turned out to be, but for how it is read under a mask.
    #[inline(always)]
    pub fn of(row: &Row<'_>) -> Self {
        match row {
            Row::Nan(_) => Found { max: f64::INFINITY, nan: true, ..Found::NOTHING },
            Row::Infinite(_) => Found { max: f64::INFINITY, ..Found::NOTHING },
            Row::Masked => Found::NOTHING,
            Row::Live(live) => Found { max: live.max, exact: !matches!(live.logits, Logits::F64(_)), ..Found::NOTHING },
        }
    }

    /// The row of which this is all, without its logits.
    pub fn row(&self) -> Row<'static> {
        Row::known(self.max, self.nan)
    }

    /// A part as one of a row that has this.
    #[inline(always)]
    pub fn within<'b, I: Isa>(&self, isa: I, part: Live<'b>, buffers: &'b mut Buffers) -> Live<'b> {
        part.within(isa, self.max, self.exact, buffers)
    }
}

/// How many integers go from rank to rank for what a row has.
#[cfg(feature = "sharded")]
pub const KEYS: usize = 6;

/// The same without a mask.
#[cfg(feature = "sharded")]
pub const PLAIN_KEYS: usize = 2;

#[cfg(feature = "sharded")]
impl Found {
    /// Integers whose maxima are the keys of what is merged.
    pub fn keys(&self) -> [u64; KEYS] {
        let max = keys::of_f64(if self.nan { f64::NAN } else { self.max });
        let [a, b, c, d] = self.masked.keys();
        [max, u64::from(!self.exact), a, b, c, d]
    }

    pub fn of_keys([max, inexact, masked @ ..]: [u64; KEYS]) -> Self {
        let max = keys::to_f64(max);
        let nan = max.is_nan();
        let masked = scores_masked::Found::of_keys(masked);
        Found { max: if nan { f64::INFINITY } else { max }, nan, exact: inexact == 0, masked }
    }

    /// [`Found::keys`] that rows without a mask have.
    pub fn plain_keys(&self) -> [u64; PLAIN_KEYS] {
        let [max, inexact, ..] = self.keys();
        [max, inexact]
    }

    pub fn of_plain_keys([max, inexact]: [u64; PLAIN_KEYS]) -> Self {
        let [_, _, a, b, c, d] = Found::NOTHING.keys();
        Found::of_keys([max, inexact, a, b, c, d])
    }

    /// The largest logit.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Whether f32 holds the logits.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether there is nothing to attend to.
    pub fn is_masked(&self) -> bool {
        matches!(self.row(), Row::Masked)
    }
}

/// The sum of a part of a row, against the maximum of all; merged, of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// By rule Q; of f64, of multiples of 2^-31.
    units: u64,
    /// Of f64, what those leave out. In logarithms of others all terms but the largest, of rows for which they may count.
    pieces: Vec<Piece>,
}

impl Sum {
    /// Of exponentials from the term of this index on, as logarithms need it.
    #[inline(always)]
    pub fn of<I: Isa>(isa: I, exps: Exps<'_>, start: usize, all: usize, buffers: &mut Buffers) -> Self {
        match exps {
            Exps::F32 { sum, .. } if !is_peaked(sum, all) => Sum { units: sum, pieces: Vec::new() },
            Exps::F32 { values, sum, .. } => {
                let (one, zero) = (isa.f64(1.0), isa.f64(0.0));
                let rest = Span::in_place(room(&mut buffers.f64s, values.len())).map_from_wide(
                    isa,
                    values,
                    #[inline(always)]
                    |_, e| I::F64::select(e.eq(one), zero, e),
                );
                Sum { units: sum, pieces: vec![Piece::of(isa, start, rest)] }
            }
            Exps::F64 { values } => {
                let units = (sum_on_grid(isa, values) / GRID) as u64;
                let rest = Span::in_place(room(&mut buffers.f64s, values.len())).map_from_wide(
                    isa,
                    &*values,
                    #[inline(always)]
                    |_, e| off_grid(isa, e),
                );
                Sum { units, pieces: vec![Piece::of(isa, start, rest)] }
            }
        }
    }

    /// The sum of both.
    pub fn merge(&mut self, other: Self) {
        // Parts of a row are below 2^63 together.
        self.units = self.units.wrapping_add(other.units);
        self.pieces.extend(other.pieces);
    }
}

#[cfg(feature = "sharded")]
impl Sum {
    /// What is added up as an integer.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// With the units of all parts, and no pieces.
    pub fn of_units(units: u64) -> Self {
        Sum { units, pieces: Vec::new() }
    }

    /// The pieces of a part.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Takes up those of another.
    pub fn add_piece(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// 1 / sum as two f64, for gradients.
    pub fn reciprocal_wide<E: Element>(&self, all: usize) -> (f64, f64) {
        if E::DTYPE == DType::F64 {
            return self.inverse::<E>(all);
        }
        (1.0 / units_to_f64(self.units, all), 0.0)
    }

    /// Whether units of all parts are not enough, for a row that has this in all.
    pub fn needs_pieces<E: Element>(&self, found: &Found, of: For, all: usize) -> bool {
        let may_count = E::DTYPE == DType::F64 || of == For::Logarithm && is_peaked(self.units, all);
        may_count && matches!(found.row(), Row::Live(_))
    }
}

/// What a sum is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Softmax,
    Logarithm,
}

/// Some columns of rows.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Of whole rows.
    pub scores: Scores<'a>,
    /// The first column.
    pub first: usize,
    /// Columns in all.
    pub all: usize,
}

/// What the part of each row has.
pub fn find<E: Element>(x: Rows<'_, E>, part: Part<'_>) -> Result<Vec<Found>> {
    each_row(x, Found::NOTHING, Finding(part))
}

/// The sum of the part of each row.
pub fn sums<E: Element>(x: Rows<'_, E>, part: Part<'_>, found: &[Found], of: For) -> Result<Vec<Sum>> {
    each_row(x, Sum::default(), Summing { part, found, of })
}

#[derive(Clone, Copy)]
struct Finding<'a>(Part<'a>);

impl<E: Element> OfRow<E> for Finding<'_> {
    type Out = Found;

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> Found {
        let Part { scores, first, .. } = self.0;
        let Scratch { logits, beside, .. } = scratch;
        let masked = scores.find_masked(isa, row, first, x, [&mut *logits, beside]);
        Found { masked, ..Found::of(&scores.read_part(isa, row, first, x, logits)) }
    }
}

#[derive(Clone, Copy)]
struct Summing<'a> {
    part: Part<'a>,
    found: &'a [Found],
    of: For,
}

impl<E: Element> OfRow<E> for Summing<'_> {
    type Out = Sum;

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> Sum {
        let Part { scores, first, all } = self.part;
        let Scratch { logits, made, beside } = scratch;
        let found = &self.found[row];
        let Row::Live(_) = found.row() else { return Sum::default() };
        if self.of == For::Softmax
            && let Some(masked) = scores.masked_part(isa, row, first, x, &found.masked, [&mut *logits, &mut *beside])
        {
            let x = &x[masked.columns.clone()];
            let to = Span::in_place(room(&mut made.f32s, x.len())).reading(x);
            return Sum { units: masked.exps_to(isa, to, all).1, pieces: Vec::new() };
        }
        let Row::Live(live) = scores.read_part(isa, row, first, x, logits) else { return Sum::default() };
        let live = found.within(isa, live, beside);
        let start = first + live.columns.start - scores.bounds(row, 0..all).start;
        let exps = live.exps(isa, &x[live.columns.clone()], all, false, made);
        match exps {
            Exps::F32 { sum, .. } if self.of == For::Softmax => Sum { units: sum, pieces: Vec::new() },
            exps => Sum::of(isa, exps, start, all, beside),
        }
    }
}

impl Sum {
    /// As a sum of two.
    pub fn value<E: Element>(&self, all: usize) -> (f64, f64) {
        if E::DTYPE == DType::F64 {
            return sum_of_two(self.units as f64 * GRID, pieces::sum(&self.pieces));
        }
        (units_to_f64(self.units, all), 0.0)
    }

    /// Without one of its terms, accurate also where that leaves little; `value` is that of the sum.
    pub fn without<E: Element>(&self, one: f64, value: (f64, f64), all: usize) -> f64 {
        if E::DTYPE == DType::F64 {
            if one <= 0.5 * value.0 {
                return (value.0 - one) + value.1;
            }
            // It is the largest, 1, which is on the grid.
            let (others, low) = sum_of_two(self.units as f64 * GRID - one, pieces::sum(&self.pieces));
            return others + low;
        }
        let others = self.units.wrapping_sub((one * (1u64 << unit_bits(all)) as f64).round_ties_even() as u64);
        if leaves_digits(others, all) {
            return units_to_f64(others, all);
        }
        // It is the only one as large as 1, so that the sum is peaked, and the pieces are of all others.
        pieces::sum(&self.pieces)
    }

    /// 1 / sum in two parts.
    fn inverse<E: Element>(&self, all: usize) -> (f64, f64) {
        if E::DTYPE == DType::F64 {
            return reciprocal_of(self.value::<E>(all));
        }
        let (high, low) = Exps::reciprocal(self.units, all);
        (f64::from(high), f64::from(low))
    }

    #[inline(always)]
    pub fn log<I: Isa, E: Element>(&self, isa: I, all: usize) -> f64 {
        if E::DTYPE == DType::F64 {
            let (rest, low) = sum_of_two(self.units as f64 * GRID - 1.0, pieces::sum(&self.pieces));
            return log1p_scalar(isa, rest + low);
        }
        match log_of_units(isa, self.units, all) {
            Some(log) => log,
            None => log1p_scalar(isa, pieces::sum(&self.pieces)),
        }
    }
}

/// The results of some columns.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    pub part: Part<'a>,
    pub found: &'a [Found],
    pub sums: &'a [Sum],
    pub of: For,
}

impl<E: Element> LaneKernel<E> for Store<'_> {
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
        each_lane(
            which,
            ends,
            len,
            #[inline(always)]
            |row, span| self.lane(isa, row, span, scratch, met),
        )
    }
}

impl Store<'_> {
    #[inline(always)]
    fn lane<I: Isa, E: Element>(
        &self,
        isa: I,
        row: usize,
        span: Span<'_, E, E>,
        scratch: &mut Scratch,
        met: &mut Met,
    ) -> Written {
        let Part { scores, first, all } = self.part;
        let Scratch { logits, made, beside } = scratch;
        let (found, sum) = (&self.found[row], &self.sums[row]);
        let (zero, uniform) = match self.of {
            For::Softmax => (E::ZERO, 1.0 / all as f64),
            For::Logarithm => (E::NEG_INFINITY, -log_scalar(isa, all as f64).0),
        };
        let known = found.row();
        let Row::Live(_) = known else {
            return span.fill(known.stand_in(row, scores.fully_masked, met, zero, E::from_wide(uniform))).into();
        };
        if self.of == For::Softmax
            && let Some(masked) =
                scores.masked_part(isa, row, first, span.source(), &found.masked, [&mut *logits, &mut *beside])
        {
            return softmax::write_masked(isa, &masked, span, all, made, Some(sum.inverse::<E>(all)));
        }
        let Row::Live(live) = scores.read_part(isa, row, first, span.source(), logits) else {
            return span.fill(zero).into();
        };
        let live = found.within(isa, live, beside);
        match self.of {
            For::Softmax => softmax::write_live(isa, &live, span, all, made, Some(sum.inverse::<E>(all))),
            For::Logarithm => log_softmax::write_live(isa, &live, sum.log::<I, E>(isa, all), span),
        }
    }
}

/// What logarithms the sums of rows have, of a type; 0 of a row that has none.
pub fn logs<E: Element>(all: usize, found: &[Found], sums: &[Sum]) -> Result<Vec<f64>> {
    let no_columns = Rows::<E>::shaped(&[], &[found.len(), 0])?;
    each_row(no_columns, 0.0, Logs { all, found, sums })
}

#[derive(Clone, Copy)]
struct Logs<'a> {
    all: usize,
    found: &'a [Found],
    sums: &'a [Sum],
}

impl<E: Element> OfRow<E> for Logs<'_> {
    type Out = f64;

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, _: &[E], _: &mut Scratch) -> f64 {
        match self.found[row].row() {
            Row::Live(_) => self.sums[row].log::<I, E>(isa, self.all),
            _ => 0.0,
        }
    }
}

impl Found {
    /// The log-sum-exp of a row of which this is all, by its number, and the logarithm of its sum.
    pub fn log_sum_exp<E: Element>(&self, row: usize, log: f64, policy: FullyMasked, met: &mut Met) -> E {
        match self.row() {
            Row::Live(_) => E::from_wide(self.max + log),
            known => known.log_sum_exp(row, policy, met),
        }
    }
}
