//! Softmax and log-softmax of sharded rows. Each shard computes its statistics, then its sum of exponentials relative
//! to the maximum of the complete row, then its results. Each step is the same as for a complete row, so the results
//! have the same bits.

use super::each_row::{OfRow, each_row};
use super::exp_sum::{ExpSum, RescaleExponent};
use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::log_softmax;
use super::scores::{Exps, Live, LogitTransform, Logits, Row, widened};
use super::scores_masked;
use super::scratch::{Buffers, Scratch, scratch_slice};
use super::softmax::Write;
use crate::element::Element;
use crate::error::Result;
use crate::mask::FullyMasked;
#[cfg(feature = "sharded")]
use crate::math::keys;
use crate::math::log::log_scalar;
use crate::rows::Rows;
use crate::simd::{Isa, Span, Written};

/// Statistics of a shard. Merging all shards gives the statistics of the complete row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardStats {
    /// Largest logit; +inf if there is a NaN.
    max: f64,
    /// Largest logit below `max`; not computed for f64, which does not need it.
    second: f64,
    nan: bool,
    /// Whether f32 represents all logits exactly.
    exact: bool,
    masked: scores_masked::MaskedStats,
}

impl ShardStats {
    /// Statistics of an empty shard.
    pub const NOTHING: Self = ShardStats {
        max: f64::NEG_INFINITY,
        second: f64::NEG_INFINITY,
        nan: false,
        exact: true,
        masked: scores_masked::MaskedStats::NOTHING,
    };

    /// Returns the merged statistics of two shards.
    pub fn merge(self, other: Self) -> Self {
        let max = self.max.max(other.max);
        ShardStats {
            max,
            second: self.below(max).max(other.below(max)),
            nan: self.nan || other.nan,
            exact: self.exact && other.exact,
            masked: self.masked.merge(other.masked),
        }
    }

    /// Returns the largest logit below `max`. The shard's maximum must not exceed `max`.
    fn below(&self, max: f64) -> f64 {
        if self.max < max { self.max } else { self.second }
    }

    /// Returns the exponent of a power of two. All exponentials except the largest are multiplied by this power before
    /// they are summed.
    pub fn finer(&self) -> RescaleExponent {
        RescaleExponent::new(self.max, self.second)
    }

    /// Returns the statistics of a shard, except `masked`.
    #[inline(always)]
    pub fn of<I: Isa, E: Element>(isa: I, row: &Row<'_>, x: &[E]) -> Self {
        match row {
            Row::Nan(_) => ShardStats { max: f64::INFINITY, nan: true, ..ShardStats::NOTHING },
            Row::Infinite(_) => ShardStats { max: f64::INFINITY, ..ShardStats::NOTHING },
            Row::Masked => ShardStats::NOTHING,
            Row::Live(live) => ShardStats {
                max: live.max,
                second: if E::IS_F64 {
                    f64::NEG_INFINITY
                } else {
                    live.second(isa, &x[live.columns.clone()], live.max)
                },
                exact: !matches!(live.logits, Logits::F64(_)),
                ..ShardStats::NOTHING
            },
        }
    }

    /// Classifies the complete row from its statistics alone.
    pub fn row(&self) -> Row<'static> {
        Row::known(self.max, self.nan)
    }

    /// Replaces the maximum of a shard's logits by the complete row's maximum. If f32 cannot represent all logits of
    /// the complete row, widens the shard's logits to f64. `self` holds the statistics of the complete row.
    #[inline(always)]
    pub fn within<'b, I: Isa>(&self, isa: I, part: Live<'b>, buffers: &'b mut Buffers) -> Live<'b> {
        part.within(isa, self.max, self.exact, buffers)
    }
}

/// Number of integers that ranks exchange for the statistics of a row.
#[cfg(feature = "sharded")]
pub const KEYS: usize = 6;

/// Number of integers that ranks exchange for the statistics of a row without a mask.
#[cfg(feature = "sharded")]
pub const PLAIN_KEYS: usize = 2;

#[cfg(feature = "sharded")]
impl ShardStats {
    /// Returns integers for a max-reduction. Their maxima over all shards encode the merged statistics.
    pub fn keys(&self) -> [u64; KEYS] {
        let max = keys::of_f64(if self.nan { f64::NAN } else { self.max });
        let [a, b, c, d] = self.masked.keys();
        [max, u64::from(!self.exact), a, b, c, d]
    }

    pub fn of_keys([max, inexact, masked @ ..]: [u64; KEYS]) -> Self {
        let max = keys::to_f64(max);
        let nan = max.is_nan();
        let masked = scores_masked::MaskedStats::of_keys(masked);
        let max = if nan { f64::INFINITY } else { max };
        ShardStats { max, second: f64::NEG_INFINITY, nan, exact: inexact == 0, masked }
    }

    /// Returns a key for a max-reduction that yields the second-largest logit. `all` holds the statistics of all
    /// columns.
    pub fn second_key(&self, all: &ShardStats) -> u64 {
        keys::of_f64(self.below(all.max))
    }

    /// Stores the second-largest logit of all columns, decoded from the result of the max-reduction.
    pub fn take_second(&mut self, key: u64) {
        self.second = keys::to_f64(key);
    }

    /// Returns the subset of [`ShardStats::keys`] that rows without a mask need.
    pub fn plain_keys(&self) -> [u64; PLAIN_KEYS] {
        let [max, inexact, ..] = self.keys();
        [max, inexact]
    }

    pub fn of_plain_keys([max, inexact]: [u64; PLAIN_KEYS]) -> Self {
        let [_, _, a, b, c, d] = ShardStats::NOTHING.keys();
        ShardStats::of_keys([max, inexact, a, b, c, d])
    }

    /// Returns the largest logit.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Returns whether f32 represents all logits exactly.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Returns whether the row is fully masked.
    pub fn is_masked(&self) -> bool {
        matches!(self.row(), Row::Masked)
    }
}

/// Purpose of a sum of exponentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Softmax,
    /// A gradient. Like [`For::Logarithm`], it never uses the path of `scores_masked`.
    Gradient,
    Logarithm,
}

/// Shard of rows: a range of their columns.
#[derive(Clone, Copy)]
pub struct LogitShard<'a> {
    /// Logit options of the complete rows.
    pub scores: LogitTransform<'a>,
    /// First column of the shard.
    pub first: usize,
    /// Number of columns of the complete rows.
    pub all: usize,
}

/// Returns the statistics of each row's shard.
pub fn find<E: Element>(x: Rows<'_, E>, part: LogitShard<'_>) -> Result<Vec<ShardStats>> {
    each_row(x, ShardStats::NOTHING, Finding(part))
}

/// Returns the sum of exponentials of each row's shard.
pub fn sums<E: Element>(x: Rows<'_, E>, part: LogitShard<'_>, found: &[ShardStats], of: For) -> Result<Vec<ExpSum>> {
    each_row(x, ExpSum::default(), Summing { part, found, of })
}

#[derive(Clone, Copy)]
struct Finding<'a>(LogitShard<'a>);

impl<E: Element> OfRow<E> for Finding<'_> {
    type Out = ShardStats;

    fn op(&self) -> &'static str {
        "softmax"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> ShardStats {
        let LogitShard { scores, first, .. } = self.0;
        let Scratch { logits, widened: buffer, made, beside } = scratch;
        let x = widened(isa, x, buffer);
        let masked = scores.find_masked(isa, row, first, x, ([&mut *logits, beside], &mut made.f32s));
        ShardStats { masked, ..ShardStats::of(isa, &scores.read_part(isa, row, first, x, logits), x) }
    }
}

#[derive(Clone, Copy)]
struct Summing<'a> {
    part: LogitShard<'a>,
    found: &'a [ShardStats],
    of: For,
}

impl<E: Element> OfRow<E> for Summing<'_> {
    type Out = ExpSum;

    fn op(&self) -> &'static str {
        "softmax"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> ExpSum {
        let LogitShard { scores, first, all } = self.part;
        let Scratch { logits, widened: buffer, made, beside } = scratch;
        let x = widened(isa, x, buffer);
        let found = &self.found[row];
        let Row::Live(_) = found.row() else { return ExpSum::default() };
        if self.of == For::Softmax
            && let Some(masked) = scores.masked_part(isa, row, first, x, &found.masked, [&mut *logits, &mut *beside])
        {
            let x = &x[masked.columns.clone()];
            let to = Span::in_place(scratch_slice(&mut made.f32s, x.len())).reading(x).reading_f32s();
            return ExpSum::narrow(masked.exps_to(isa, to, all).1);
        }
        let Row::Live(live) = scores.read_part(isa, row, first, x, logits) else { return ExpSum::default() };
        let live = found.within(isa, live, beside);
        match live.exps(isa, &x[live.columns.clone()], all, false, made) {
            Exps::F32 { sum, .. } if self.of != For::Logarithm => ExpSum::narrow(sum),
            Exps::F64 { values } if self.of != For::Logarithm => ExpSum::wide(isa, values),
            exps => exps.sum_for_log(isa, all, || found.finer()),
        }
    }
}

/// Kernel that writes the results of some columns.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    pub part: LogitShard<'a>,
    pub found: &'a [ShardStats],
    pub sums: &'a [ExpSum],
    pub of: For,
}

impl<E: Element> LaneKernel<E> for Store<'_> {
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

impl Store<'_> {
    #[inline(always)]
    fn lane<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        row: usize,
        span: Span<'d, 'd, E, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let LogitShard { scores, first, all } = self.part;
        let Scratch { logits, widened: buffer, made, beside } = scratch;
        let (found, sum) = (&self.found[row], &self.sums[row]);
        let (zero, uniform) = match self.of {
            For::Softmax => (E::ZERO, 1.0 / all as f64),
            For::Gradient | For::Logarithm => (E::NEG_INFINITY, -log_scalar(isa, all as f64).0),
        };
        let known = found.row();
        let Row::Live(_) = known else {
            return span.fill(known.fill_value(row, scores.fully_masked, guards, zero, E::from_wide(uniform)));
        };
        let x = widened(isa, span.source(), buffer);
        let (row_len, inverse) = (all, Some(sum.inverse::<E>(all)));
        if self.of == For::Softmax
            && let Some(masked) = scores.masked_part(isa, row, first, x, &found.masked, [&mut *logits, &mut *beside])
        {
            return isa.outline(Write { row: &masked, span, row_len, widened: buffer, made, inverse });
        }
        let Row::Live(live) = scores.read_part(isa, row, first, x, logits) else {
            return span.fill(zero);
        };
        let live = found.within(isa, live, beside);
        match self.of {
            For::Softmax => isa.outline(Write { row: &live, span, row_len, widened: buffer, made, inverse }),
            For::Gradient | For::Logarithm => log_softmax::write_live(isa, &live, sum.log::<I, E>(isa, all), span),
        }
    }
}

/// Returns the logarithm of each row's sum of exponentials, for rows of type `E`; 0 if the row is not [`Row::Live`].
pub fn logs<E: Element>(all: usize, found: &[ShardStats], sums: &[ExpSum]) -> Result<Vec<f64>> {
    let no_columns = Rows::<E>::shaped(&[], &[found.len(), 0])?;
    each_row(no_columns, 0.0, Logs { all, found, sums })
}

#[derive(Clone, Copy)]
struct Logs<'a> {
    all: usize,
    found: &'a [ShardStats],
    sums: &'a [ExpSum],
}

impl<E: Element> OfRow<E> for Logs<'_> {
    type Out = f64;

    fn op(&self) -> &'static str {
        "logsumexp"
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, _: &[E], _: &mut Scratch) -> f64 {
        match self.found[row].row() {
            Row::Live(_) => self.sums[row].log::<I, E>(isa, self.all),
            _ => 0.0,
        }
    }
}

impl ShardStats {
    /// Returns the log-sum-exp of the complete row with these statistics. `row` is the row's index, and `log` is the
    /// logarithm of the row's sum of exponentials.
    pub fn log_sum_exp<E: Element>(&self, row: usize, log: f64, policy: FullyMasked, guards: &mut GuardCounts) -> E {
        match self.row() {
            Row::Live(_) => E::from_wide(self.max + log),
            known => known.log_sum_exp(row, policy, guards),
        }
    }
}
