//! Cross-entropy and its gradient for rows split into parts. The first step sums the exponentials of each part relative
//! to the maximum of the full row. The next steps compute the loss, and the gradient of the part's columns. Each step
//! does the same arithmetic as for a full row, so the results have the same bits.

use super::cross_entropy::{CrossEntropy, Distance, RowLoss};
use super::cross_entropy_backward::{Gradient, Parts};
use super::each_row::{OfRow, each_row};
#[cfg(feature = "sharded")]
use super::exp_sum;
use super::exp_sum::ExpSum;
use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::scores::{Live, Logits, Row, is_half, widened};
use super::scratch::{Buffers, Scratch};
use super::softmax_partial::ShardStats;
use crate::element::Element;
use crate::error::Result;
use crate::math::bins::Bins;
#[cfg(feature = "sharded")]
use crate::math::keys;
use crate::rows::Rows;
use crate::simd::{Isa, Span, Written};

/// Sums of a part of a row, relative to the maximum of the full row. Merging all parts gives the full row's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Sum of the exponentials, with the precision that computing its logarithm requires.
    exps: ExpSum,
    /// Logit of the target; `None` if the target is in another part.
    logit: Option<f64>,
    /// Label-smoothing term: the weighted sum of the logits' distances from the maximum.
    distances: Bins,
}

impl Sums {
    /// Adds the sums of another part.
    pub fn merge(&mut self, other: Self) {
        self.exps.merge(other.exps);
        self.logit = self.logit.or(other.logit);
        self.distances.merge(other.distances);
    }
}

/// Maximum number of integers that ranks exchange for the sums of a row.
#[cfg(feature = "sharded")]
pub const UNITS: usize = 1 + exp_sum::UNITS;

/// Returns how many of the [`UNITS`] integers are used in rows of this length.
#[cfg(feature = "sharded")]
pub fn units_for<E: Element>(row_len: usize) -> usize {
    1 + exp_sum::units_for::<E>(true, row_len)
}

#[cfg(feature = "sharded")]
impl Sums {
    /// Returns a part's sums as integers. The caller adds the integers of all parts of a row. `row_len` is the length
    /// of the full row. The first integer encodes the target's logit, and is 0 in a part without the target.
    /// [`units_for`] gives the number of integers used.
    pub fn units<E: Element>(&self, row_len: usize) -> [u64; UNITS] {
        let [first, second, third] = self.exps.units::<E>(row_len);
        [self.logit.map_or(0, keys::of_f64), first, second, third]
    }

    /// Builds the sums of a row of this length. The arguments are the integers of [`Sums::units`], each added up over
    /// all parts. A first integer of 0 means that no part has the target's logit. The binned sums are added later.
    pub fn of_units<E: Element>([logit, units @ ..]: [u64; UNITS], found: &ShardStats, row_len: usize) -> Self {
        let logit = (logit != 0).then(|| keys::to_f64(logit));
        Sums { exps: ExpSum::of_units::<E>(units, found.finer(), row_len), logit, distances: Bins::default() }
    }

    /// Returns the binned sums of the part's exponentials and of its label-smoothing distances.
    pub fn bins(&self) -> [Bins; 2] {
        [self.exps.bins(), self.distances]
    }

    /// Adds the binned sums of another part.
    pub fn add_bins(&mut self, [exps, distances]: [Bins; 2]) {
        self.exps.add_bins(exps);
        self.distances.merge(distances);
    }
}

/// Shard of rows: a range of their columns.
#[derive(Clone, Copy)]
pub struct LossShard<'a> {
    /// Options for the full rows.
    pub forward: CrossEntropy<'a>,
    /// First column of the range.
    pub first: usize,
    /// Number of columns of the full rows.
    pub all: usize,
}

/// Computes the statistics of each row's part. An ignored row has [`ShardStats::NOTHING`].
pub fn find<E: Element>(x: Rows<'_, E>, part: LossShard<'_>) -> Result<Vec<ShardStats>> {
    each_row(x, ShardStats::NOTHING, Finding(part))
}

/// Computes the sums of each row's part.
pub fn sums<E: Element>(x: Rows<'_, E>, part: LossShard<'_>, found: &[ShardStats]) -> Result<Vec<Sums>> {
    each_row(x, Sums::default(), Summing { part, found })
}

#[derive(Clone, Copy)]
struct Finding<'a>(LossShard<'a>);

impl<E: Element> OfRow<E> for Finding<'_> {
    type Out = ShardStats;

    fn op(&self) -> &'static str {
        "cross_entropy"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> ShardStats {
        let LossShard { forward, first, .. } = self.0;
        let Scratch { logits, widened: buffer, .. } = scratch;
        match forward.target(row) {
            None => ShardStats::NOTHING,
            Some(_) => {
                let x = widened(isa, x, buffer);
                ShardStats::of(isa, &forward.scores.read_part(isa, row, first, x, logits), x)
            }
        }
    }
}

impl LossShard<'_> {
    /// Returns the logits of a row's shard. The row must be [`Row::Live`]. `found` has the statistics of the full row.
    #[inline(always)]
    fn live<'b, I: Isa, E: Element>(
        &self,
        isa: I,
        row: usize,
        x: &[E],
        found: &ShardStats,
        [logits, beside]: [&'b mut Buffers; 2],
    ) -> Live<'b> {
        let live = match self.forward.scores.read_part(isa, row, self.first, x, logits) {
            Row::Live(live) => live,
            // The row has neither NaN nor +inf. So if the shard is not [`Row::Live`], all its scores are -inf. These
            // scores are used as logits, because a softcap leaves -inf unchanged.
            _ => Live { columns: 0..x.len(), logits: Logits::Direct, max: 0.0, min: f64::NEG_INFINITY },
        };
        found.within(isa, live, beside)
    }
}

#[derive(Clone, Copy)]
struct Summing<'a> {
    part: LossShard<'a>,
    found: &'a [ShardStats],
}

impl<E: Element> OfRow<E> for Summing<'_> {
    type Out = Sums;

    fn op(&self) -> &'static str {
        "cross_entropy"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> Sums {
        let LossShard { forward, first, all } = self.part;
        let Scratch { logits, widened: buffer, made, beside } = scratch;
        let x = widened(isa, x, buffer);
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

/// Returns the logarithm of each row's sum of exponentials; 0 if the row is not [`Row::Live`].
pub fn logs<E: Element>(all: usize, found: &[ShardStats], sums: &[Sums]) -> Result<Vec<f64>> {
    let no_columns = Rows::<E>::shaped(&[], &[found.len(), 0])?;
    each_row(no_columns, 0.0, Logs { all, found, sums })
}

#[derive(Clone, Copy)]
struct Logs<'a> {
    all: usize,
    found: &'a [ShardStats],
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
    /// Returns the loss of a row from the full row's statistics and sums. `all` is the row's number of columns. Returns
    /// `None` if no part had the target.
    pub fn loss_of_parts<E: Element>(
        &self,
        (index, all): (usize, usize),
        found: &ShardStats,
        sums: &Sums,
        log_sum: f64,
        guards: &mut GuardCounts,
    ) -> Option<RowLoss> {
        let Some(target) = self.target(index) else { return Some(RowLoss::default()) };
        match found.row() {
            Row::Live(live) => {
                let distances = if self.label_smoothing == 0.0 { 0.0 } else { Distance::total(&sums.distances) };
                Some(self.combine(all, target, (live.max, sums.logit?), log_sum, distances))
            }
            row => Some(self.fill_value::<E>(&row, index, target, guards)),
        }
    }
}

/// Gradient kernel for a range of columns.
#[derive(Clone, Copy)]
pub struct Gradients<'a> {
    pub gradient: Gradient<'a>,
    pub part: LossShard<'a>,
    pub found: &'a [ShardStats],
    pub sums: &'a [Sums],
}

impl<E: Element> LaneKernel<E> for Gradients<'_> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        each_lane(
            io,
            #[inline(always)]
            |row, span| self.lane(isa, row, span, scratch, guards),
        )
    }
}

impl Gradients<'_> {
    #[inline(always)]
    fn lane<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        row: usize,
        span: Span<'d, 'd, E, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let LossShard { forward, first, all } = self.part;
        let Scratch { logits, widened: buffer, made, beside } = scratch;
        let (found, sums) = (&self.found[row], &self.sums[row].exps);
        let Some(target) = forward.target(row) else { return span.fill(E::ZERO) };
        let known = found.row();
        let Row::Live(_) = known else {
            forward.fill_value::<E>(&known, row, target, guards);
            return span.fill(if matches!(known, Row::Masked) { E::ZERO } else { E::NAN });
        };
        let x = widened(isa, span.source(), buffer);
        let live = self.part.live(isa, row, x, found, [logits, beside]);
        let exps = live.exps(isa, x, all, !is_half::<E>(), made);
        let one = target.checked_sub(first).map_or(0.0, |at| exps.at(at));
        let factors = self.gradient.factors(row, target, all, live.max + sums.log::<I, E>(isa, all));
        let parts = Parts::new::<E>(sums, one, all);
        self.gradient.write(isa, (first, target), span, exps, &factors, &parts)
    }
}
