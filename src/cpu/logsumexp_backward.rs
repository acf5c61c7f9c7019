//! Gradient of log-sum-exp of a row: softmax times the row's dy.

use super::lanes::{Ends, LaneKernel, Met, each_lane};
use super::scores::{Row, Scores};
use super::scores_backward::{kept, settle, slopes, spoil, weights};
use super::scratch::{Buffers, Scratch};
use crate::element::Element;
use crate::simd::{Float, Isa, Span, Written, block};
use std::ops::Range;

#[derive(Clone, Copy)]
pub struct LogSumExpBackward<'m, E> {
    pub scores: Scores<'m>,
    /// Gradient of each lane's result.
    pub dy: &'m [E],
}

/// Replaces the scores by their gradients.
impl<E: Element> LaneKernel<E> for LogSumExpBackward<'_, E> {
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
            |index, span| self.lane(isa, index, span, scratch, met),
        )
    }
}

impl<E: Element> LogSumExpBackward<'_, E> {
    #[inline(always)]
    fn lane<I: Isa>(
        &self,
        isa: I,
        index: usize,
        span: Span<'_, E, E>,
        scratch: &mut Scratch,
        met: &mut Met,
    ) -> Written {
        let dy = self.dy[index].widen();
        let Scratch { logits, made, beside } = scratch;
        let row = self.scores.read(isa, index, span.source(), logits);
        let Buffers { f64s, flags, .. } = beside;
        let Some((live, flags)) = settle(&self.scores, &row, index, span.source(), flags, met) else {
            return span.fill(E::ZERO).into();
        };
        let columns = live.columns.clone();
        let exps = matches!(row, Row::Live(_))
            .then(|| live.exps(isa, &span.source()[columns.clone()], span.len(), true, made));
        let (span, behind) = span.split_at(columns.end);
        let (before, span) = span.split_at(columns.start);
        let written = match exps {
            Some(exps) if dy.is_finite() => {
                let (high, low) = exps.reciprocal_wide(isa);
                let (high, low, dy) = (isa.f64(high), isa.f64(low), isa.f64(dy));
                let slopes = slopes(isa, &self.scores, self.scores.scale, span.source(), f64s);
                let scale = isa.f64(self.scores.scale);
                let ahead = span.ahead(1);
                span.map_wide(
                    isa,
                    #[inline(always)]
                    |i, _| {
                        ahead.block(i);
                        let e = weights::<I, E>(isa, &exps, 0, i);
                        let y = if E::IS_F64 { e.mul_add(high, e * low) } else { e * high };
                        let slope = slopes.map_or(scale, |slopes| isa.load_f64(&block(slopes, i, 0.0)));
                        kept(isa, flags.map(|flags| block(flags, i, 0)), y * dy * slope)
                    },
                )
                .into()
            }
            Some(_) => {
                met.counts.nan += u64::from(dy.is_nan());
                met.counts.infinite += u64::from(dy.is_infinite());
                spoil(flags, span)
            }
            None => spoil(flags, span),
        };
        written + before.fill(E::ZERO).into() + behind.fill(E::ZERO).into()
    }
}
