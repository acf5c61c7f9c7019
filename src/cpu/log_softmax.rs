//! Log-softmax of a row: (z - max) - ln(sum) in f64, rounded once.

use super::lanes::{LaneKernel, Met};
use super::scores::{Logits, Row, Scores};
use super::scratch;
use crate::element::Element;
use crate::math::log::log_scalar;
use crate::simd::{Isa, Span, Written};

#[derive(Clone, Copy)]
pub struct LogSoftmax<'m>(pub Scores<'m>);

impl<E: Element> LaneKernel<E> for LogSoftmax<'_> {
    #[inline(always)]
    fn lane<I: Isa>(&self, isa: I, index: usize, span: Span<'_, E, E>, met: &mut Met) -> Written {
        scratch::with(
            #[inline(always)]
            |scratch| {
                let row = self.0.read(isa, index, span.source(), &mut scratch.logits);
                let Row::Live(live) = row else {
                    let uniform = E::from_wide(-log_scalar(isa, span.len() as f64).0);
                    return span.fill(row.stand_in(index, self.0.fully_masked, met, E::NEG_INFINITY, uniform)).into();
                };
                let log_sum = isa.f64(live.log_sum(isa, span.source(), &mut scratch.made));
                let max = isa.f64(live.max);
                let (span, behind) = span.split_at(live.columns.end);
                let (before, span) = span.split_at(live.columns.start);
                let written: Written = match live.logits {
                    Logits::Direct => span.map_wide(
                        isa,
                        #[inline(always)]
                        |_, z| (z - max) - log_sum,
                    ),
                    Logits::F32(z) => span.map_from_wide(
                        isa,
                        z,
                        #[inline(always)]
                        |_, z| (z - max) - log_sum,
                    ),
                    Logits::F64(z) => span.map_from_wide(
                        isa,
                        z,
                        #[inline(always)]
                        |_, z| (z - max) - log_sum,
                    ),
                }
                .into();
                written + before.fill(E::NEG_INFINITY).into() + behind.fill(E::NEG_INFINITY).into()
            },
        )
    }
}
