//! Cross-entropy and its gradient of rows that are in parts: the sums of each part against the maximum of all, then the
//! loss, then the gradient of its columns. Each step is that of a whole row, so that the bits are.

use super::cross_entropy::{CrossEntropy, Distance, RowLoss};
use super::cross_entropy_backward::{Gradient, Parts};
use super::each_row::{OfRow, each_row};
#[cfg(feature = "sharded")]
use super::exp_sum;
use super::exp_sum::ExpSum;
use super::lanes::{Ends, LaneKernel, Met, each_lane};
use super::scores::{Live, Logits, Row};
use super::scratch::{Buffers, Scratch};
use super::softmax_partial::Found;
use crate::element::Element;
use crate::error::Result;
use crate::math::bins::Bins;
use crate::rows::Rows;
#[cfg(feature = "sharded")]
use crate::sharded::keys;
use crate::simd::{Isa, Span, Written};
use std::ops::Range;

/// What a part of a row adds, against the maximum of all; merged, what all of it adds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Of the exponentials, as for logarithms.
    exps: ExpSum,
    /// The target's logit, of the part that has it.
    logit: Option<f64>,
    /// With label smoothing, what classes add to the loss by their distance from the maximum.
    distances: Bins,
}

impl Sums {
    /// What both add.
    pub fn merge(&mut self, other: Self) {
        self.exps.merge(other.exps);
        self.logit = self.logit.or(other.logit);
        self.distances.merge(other.distances);
    }
}

/// How many integers go from rank to rank at most for what a row adds.
#[cfg(feature = "sharded")]
pub const UNITS: usize = 1 + exp_sum::UNITS;

/// How many of them count in rows of this length.
#[cfg(feature = "sharded")]
pub fn units_for<E: Element>(row_len: usize) -> usize {
    1 + exp_sum::units_for::<E>(true, row_len)
}

#[cfg(feature = "sharded")]
impl Sums {
    /// Integers of a part of a row of this length, whose sums are those of all columns: of the logit, which one part alone
    /// has, its key. [`units_for`] says how many count.
    pub fn units<E: Element>(&self, row_len: usize) -> [u64; UNITS] {
        let [first, second, third] = self.exps.units::<E>(row_len);
        [self.logit.map_or(0, keys::of_f64), first, second, third]
    }

    /// Returns this sum with the units of all parts and without bins, for a row of this length. The key 0 means no logit.
    pub fn of_units<E: Element>([logit, units @ ..]: [u64; UNITS], found: &Found, row_len: usize) -> Self {
        let logit = (logit != 0).then(|| keys::to_f64(logit));
        Sums { exps: ExpSum::of_units::<E>(units, found.finer(), row_len), logit, distances: Bins::default() }
    }

    /// The bins of a part: of the exponentials, and of the distances.
    pub fn bins(&self) -> [Bins; 2] {
        [self.exps.bins(), self.distances]
    }

    /// Takes up those of another part.
    pub fn add_bins(&mut self, [exps, distances]: [Bins; 2]) {
        self.exps.add_bins(exps);
        self.distances.merge(distances);
    }
}

/// Some columns of rows.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Of whole rows.
    pub forward: CrossEntropy<'a>,
    /// The first column.
    pub first: usize,
    /// Columns in all.
    pub all: usize,
}

/// What the part of each row has; of rows that do not count, nothing.
pub fn find<E: Element>(x: Rows<'_, E>, part: Part<'_>) -> Result<Vec<Found>> {
    each_row(x, Found::NOTHING, Finding(part))
}

/// What the part of each row adds.
pub fn sums<E: Element>(x: Rows<'_, E>, part: Part<'_>, found: &[Found]) -> Result<Vec<Sums>> {
    each_row(x, Sums::default(), Summing { part, found })
}

#[derive(Clone, Copy)]
struct Finding<'a>(Part<'a>);

impl<E: Element> OfRow<E> for Finding<'_> {
    type Out = Found;

    fn op(&self) -> &'static str {
        "cross_entropy"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> Found {
        let Part { forward, first, .. } = self.0;
        match forward.target(row) {
            None => Found::NOTHING,
            Some(_) => Found::of(isa, &forward.scores.read_part(isa, row, first, x, &mut scratch.logits), x),
        }
    }
}

impl Part<'_> {
    /// The part's logits in a live row that has these.
    #[inline(always)]
    fn live<'b, I: Isa, E: Element>(
        &self,
        isa: I,
        row: usize,
        x: &[E],
        found: &Found,
        [logits, beside]: [&'b mut Buffers; 2],
    ) -> Live<'b> {
        let live = match self.forward.scores.read_part(isa, row, self.first, x, logits) {
            Row::Live(live) => live,
            // Nothing is in it that has a share: each logit is -inf, under a softcap too.
            _ => Live { columns: 0..x.len(), logits: Logits::Direct, max: 0.0, min: f64::NEG_INFINITY },
        };
        found.within(isa, live, beside)
    }
}

#[derive(Clone, Copy)]
struct Summing<'a> {
    part: Part<'a>,
    found: &'a [Found],
}

impl<E: Element> OfRow<E> for Summing<'_> {
    type Out = Sums;

    fn op(&self) -> &'static str {
        "cross_entropy"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> Sums {
        let Part { forward, first, all } = self.part;
        let Scratch { logits, made, beside } = scratch;
        let found = &self.found[row];
        let (Some(target), Row::Live(_)) = (forward.target(row), found.row()) else { return Sums::default() };
        let live = self.part.live(isa, row, x, found, [logits, beside]);
        let at = target.checked_sub(first).filter(|at| *at < x.len());
        let logit = at.map(|at| live.logit(x, at));
        let distances = if forward.label_smoothing == 0.0 {
            Bins::default()
        } else {
            let weight = forward.weight.map(|weight| &weight[first..first + x.len()]);
            Distance::new(forward.label_smoothing, all, live.max).sum(isa, weight, x, &live.logits)
        };
        let exps = live.exps(isa, x, all, false, made);
        Sums { exps: exps.sum_for_log(isa, all, || found.finer()), logit, distances }
    }
}

/// The logarithm of each row's sum, of a type; 0 of a row that has none.
pub fn logs<E: Element>(all: usize, found: &[Found], sums: &[Sums]) -> Result<Vec<f64>> {
    let no_columns = Rows::<E>::shaped(&[], &[found.len(), 0])?;
    each_row(no_columns, 0.0, Logs { all, found, sums })
}

#[derive(Clone, Copy)]
struct Logs<'a> {
    all: usize,
    found: &'a [Found],
    sums: &'a [Sums],
}

impl<E: Element> OfRow<E> for Logs<'_> {
    type Out = f64;

    fn op(&self) -> &'static str {
        "cross_entropy"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, _: &[E], _: &mut Scratch) -> f64 {
        match self.found[row].row() {
            Row::Live(_) => self.sums[row].exps.log::<I, E>(isa, self.all),
            _ => 0.0,
        }
    }
}

impl CrossEntropy<'_> {
    /// The loss of a row of so many columns, of what all of it has and adds. Nothing where no part had the target.
    pub fn loss_of_parts<E: Element>(
        &self,
        (index, all): (usize, usize),
        found: &Found,
        sums: &Sums,
        log_sum: f64,
        met: &mut Met,
    ) -> Option<RowLoss> {
        let Some(target) = self.target(index) else { return Some(RowLoss::default()) };
        match found.row() {
            Row::Live(live) => {
                let distances = if self.label_smoothing == 0.0 { 0.0 } else { Distance::total(&sums.distances) };
                Some(self.combine(all, target, (live.max, sums.logit?), log_sum, distances))
            }
            row => Some(self.stand_in::<E>(&row, index, target, met)),
        }
    }
}

/// The gradient of some columns.
#[derive(Clone, Copy)]
pub struct Gradients<'a> {
    pub gradient: Gradient<'a>,
    pub part: Part<'a>,
    pub found: &'a [Found],
    pub sums: &'a [Sums],
}

impl<E: Element> LaneKernel<E> for Gradients<'_> {
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

impl Gradients<'_> {
    #[inline(always)]
    fn lane<I: Isa, E: Element>(
        &self,
        isa: I,
        row: usize,
        span: Span<'_, E, E>,
        scratch: &mut Scratch,
        met: &mut Met,
    ) -> Written {
        let Part { forward, first, all } = self.part;
        let Scratch { logits, made, beside } = scratch;
        let (found, sums) = (&self.found[row], &self.sums[row].exps);
        let Some(target) = forward.target(row) else { return span.fill(E::ZERO).into() };
        let known = found.row();
        let Row::Live(_) = known else {
            forward.stand_in::<E>(&known, row, target, met);
            return span.fill(if matches!(known, Row::Masked) { E::ZERO } else { E::NAN }).into();
        };
        let live = self.part.live(isa, row, span.source(), found, [logits, beside]);
        let exps = live.exps(isa, span.source(), all, true, made);
        let one = target.checked_sub(first).map_or(0.0, |at| exps.at(at));
        let factors = self.gradient.factors(row, target, all, live.max + sums.log::<I, E>(isa, all));
        let parts = Parts::new::<E>(sums, one, all);
        self.gradient.write(isa, (first, target), span, exps, &factors, &parts)
    }
}
