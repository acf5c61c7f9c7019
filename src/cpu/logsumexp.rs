//! Log-sum-exp of a row: `max + ln(sum)` in f64, rounded once.

use super::lanes::GuardCounts;
use super::scores::{LogitTransform, Row, is_half};
use super::scratch::{Scratch, lend_scratch};
use super::transpose::gather;
use crate::element::Element;
use crate::error::Result;
use crate::mask::FullyMasked;
use crate::rows::Lanes;
use crate::simd::{self, Isa, Kernel, Output, Span, Work, Written};

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
                let value = log_sum_exp(isa, &self.scores, index, row, scratch, &mut guards);
                let to = Span::<E, E>::new(std::slice::from_ref(&value), self.to.take_first(1));
                written = written + to.fill(value).into();
            }
        }
        guards.counts.rows = (self.groups * inner) as u64;
        (written, guards)
    }
}

#[inline(always)]
fn log_sum_exp<I: Isa, E: Element>(
    isa: I,
    scores: &LogitTransform<'_>,
    index: usize,
    x: &[E],
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) -> E {
    let Scratch { logits, widened, made, .. } = scratch;
    let (x, row) = scores.read_widened(isa, index, x, true, (widened, logits));
    match row {
        Row::Live(live) => E::from_wide(live.max + live.log_sum(isa, x, !is_half::<E>(), made)),
        // A row without columns gives -inf under every policy.
        Row::Masked if x.is_empty() => E::NEG_INFINITY,
        row => row.log_sum_exp(index, scores.fully_masked, guards),
    }
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
