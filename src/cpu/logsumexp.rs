//! Log-sum-exp of a row: `max + ln(sum)` in f64, rounded once.

use super::lanes::GuardCounts;
use super::scores::{LogitTransform, Row, SumForLog, is_half, logs};
use super::scratch::{Scratch, lend_scratch};
use super::transpose::gather;
use crate::element::Element;
use crate::error::Result;
use crate::mask::FullyMasked;
use crate::rows::Lanes;
use crate::simd::{self, BLOCK, Isa, Kernel, Output, Span, Work, Written};

/// Writes one value for each lane.
pub fn apply<'a, E: Element>(
    x: Lanes<'_, E>,
    out: Output<'a, E>,
    scores: LogitTransform<'_>,
) -> Result<(&'a mut [E], GuardCounts)> {
    out.write(|to| simd::run(Reduce { x, groups: x.geometry.outer(), first: 0, to, scores }))
}

struct Reduce<'a, 'w, E> {
    x: Lanes<'a, E>,
    groups: usize,
    first: usize,
    to: Output<'w, E>,
    scores: LogitTransform<'a>,
}

impl<'w, E: Element> Work for Reduce<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.groups
    }

    fn cols(&self) -> usize {
        self.x.geometry.len() * self.x.geometry.inner()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = self.to.split_at(at * self.x.geometry.inner());
        (
            Reduce { groups: at, to: a, ..self },
            Reduce { groups: self.groups - at, first: self.first + at, to: b, ..self },
        )
    }
}

impl<'w, E: Element> Kernel for Reduce<'_, 'w, E> {
    type Out = (Written<'w>, GuardCounts);

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let mut guards = GuardCounts::default();
        let (len, inner, stride) = (self.x.geometry.len(), self.x.geometry.inner(), self.x.geometry.stride);
        let mut written = Written::default();
        let mut column = Vec::new();
        let mut lent = lend_scratch();
        let scratch = lent.get();
        let (mut maxima, mut sums, mut waiting) = ([0.0; BLOCK], [SumForLog::ONE; BLOCK], 0);
        for group in 0..if inner == 0 { 0 } else { self.groups } {
            let from = &self.x.data[(self.first + group) * stride..][..len * inner];
            for i in 0..inner {
                let index = (self.first + group) * inner + i;
                let row = if inner == 1 {
                    from
                } else {
                    column.resize(len, E::ZERO);
                    if len > 0 {
                        gather(from, inner, i, len, &mut column);
                    }
                    &column
                };
                (maxima[waiting], sums[waiting]) = max_and_sum(isa, &self.scores, index, row, scratch, &mut guards);
                waiting += 1;
                let is_last = group + 1 == self.groups && i + 1 == inner;
                if waiting == BLOCK || is_last {
                    written = written + write(isa, &maxima[..waiting], &sums, self.to.take_first(waiting)).into();
                    waiting = 0;
                }
            }
        }
        guards.counts.rows = (self.groups * inner) as u64;
        (written, guards)
    }
}

/// Returns the largest logit and the sum of exponentials. For a row without finite logits, or with NaN or +inf, returns
/// the result and a sum of 1.
#[inline(always)]
fn max_and_sum<I: Isa, E: Element>(
    isa: I,
    scores: &LogitTransform<'_>,
    index: usize,
    x: &[E],
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) -> (f64, SumForLog) {
    let Scratch { logits, widened, made, .. } = scratch;
    let (x, row) = scores.read_widened(isa, index, x, true, (widened, logits));
    match row {
        Row::Live(live) => (live.max, live.sum_for_logs(isa, x, !is_half::<E>(), made)),
        // A row without columns gives -inf under every policy.
        Row::Masked if x.is_empty() => (f64::NEG_INFINITY, SumForLog::ONE),
        row => (row.log_sum_exp::<f64>(index, scores.fully_masked, guards), SumForLog::ONE),
    }
}

/// Writes the results of up to one block of rows.
#[inline(always)]
fn write<'w, I: Isa, E: Element>(isa: I, maxima: &[f64], sums: &[SumForLog; BLOCK], to: Output<'w, E>) -> &'w mut [E] {
    let logs = logs(isa, sums);
    Span::new(maxima, to).map_with(
        isa,
        [&logs[..maxima.len()]],
        #[inline(always)]
        |_, max: I::F64, [log]| max + isa.load_f64(log),
    )
}

impl Row<'_> {
    /// Returns the log-sum-exp of a fully masked row, or of a row with NaN or +inf. Counts the row in `guards`.
    #[inline(always)]
    pub fn log_sum_exp<E: Element>(&self, index: usize, policy: FullyMasked, guards: &mut GuardCounts) -> E {
        match self {
            Row::Infinite(_) => {
                self.fill_value(index, FullyMasked::Zeros, guards, E::ZERO, E::ZERO);
                E::INFINITY
            }
            // A fully masked row sums no terms, so its result is ln 0 = -inf under every policy that does not reject
            // it.
            row => row.fill_value(index, policy, guards, E::NEG_INFINITY, E::NEG_INFINITY),
        }
    }
}
