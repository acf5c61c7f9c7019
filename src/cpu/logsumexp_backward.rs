//! Gradient of log-sum-exp of a row: softmax times the row's dy.

use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::scores::{LogitTransform, Row, is_half};
use super::scores_backward::{derivatives, kept, live_part, spoil, weights};
use super::scratch::{Buffers, Scratch};
use crate::element::Element;
use crate::simd::{Float, Isa, Span, Written, load_wide};

#[derive(Clone, Copy)]
pub struct LogSumExpBackward<'m, E> {
    pub scores: LogitTransform<'m>,
    /// Gradient of each lane's result.
    pub dy: &'m [E],
}

/// Replaces the scores by their gradients.
impl<E: Element> LaneKernel<E> for LogSumExpBackward<'_, E> {
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
            |index, span| self.lane(isa, index, span, scratch, guards),
        )
    }
}

impl<E: Element> LogSumExpBackward<'_, E> {
    #[inline(always)]
    fn lane<'d, I: Isa>(
        &self,
        isa: I,
        index: usize,
        span: Span<'d, 'd, E, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let dy = self.dy[index].widen();
        let Scratch { logits, widened, made, beside } = scratch;
        let (x, row) = self.scores.read_widened(isa, index, span.source(), span.is_far(), (widened, logits));
        let Buffers { f64s, flags, .. } = beside;
        let Some((live, flags)) = live_part(&self.scores, &row, index, x, flags, guards) else {
            return span.fill(E::ZERO);
        };
        let columns = live.columns.clone();
        let exps =
            matches!(row, Row::Live(_)).then(|| live.exps(isa, &x[columns.clone()], x.len(), !is_half::<E>(), made));
        let derivatives = derivatives(isa, &self.scores, self.scores.scale, &x[columns.clone()], f64s);
        span.fill_outside(
            columns,
            E::ZERO,
            #[inline(always)]
            |span| match exps {
                Some(exps) if dy.is_finite() => {
                    let (high, low) = exps.reciprocal_wide(isa);
                    let (high, low, dy) = (isa.f64(high), isa.f64(low), isa.f64(dy));
                    let scale = isa.f64(self.scores.scale);
                    let ahead = span.ahead(1);
                    span.map(
                        isa,
                        #[inline(always)]
                        |i, _: I::F64| {
                            ahead.block(i);
                            let e = weights::<I, E>(isa, &exps, 0, i);
                            let y = if E::IS_F64 { e.mul_add(high, e * low) } else { e * high };
                            let derivative =
                                derivatives.map_or(scale, |derivatives| load_wide(isa, derivatives, i, 0.0));
                            kept(isa, flags, i, y * dy * derivative)
                        },
                    )
                }
                Some(_) => {
                    guards.counts.nan += u64::from(dy.is_nan());
                    guards.counts.infinite += u64::from(dy.is_infinite());
                    spoil(flags, span)
                }
                None => spoil(flags, span),
            },
        )
    }
}
