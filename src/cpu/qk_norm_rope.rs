//! RMSNorm of each head's row, then rotary embedding of the rounded result while it is in the nearest cache.

use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::norm_rows::{Norm, OneRow, Plan, ShortRows, TOGETHER};
use super::rms_norm::RmsNorm;
use super::rope::{self, Rope};
use super::scratch::Scratch;
use crate::element::Element;
use crate::simd::{Isa, Span, Written};

#[derive(Clone, Copy)]
pub struct QkNormRope<'a> {
    pub norm: RmsNorm<'a>,
    pub rope: Rope<'a>,
}

impl<E: Element> LaneKernel<E> for QkNormRope<'_> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        let (which, len) = (io.indices(), io.len());
        if ShortRows::<RmsNorm<'_>>::are(len) {
            let Scratch { logits, made, beside, .. } = scratch;
            let rows = ShortRows::new::<I, E>(isa, &self.norm, len, [made, beside]);
            let mut written = Written::default();
            for first in (0..which.len()).step_by(TOGETHER) {
                // Computes the moments of several rows together, to overlap the latency of the sums, roots and
                // reciprocals.
                let mut group = [Plan::default(); TOGETHER];
                let group = &mut group[..TOGETHER.min(which.len() - first)];
                for (i, plan) in group.iter_mut().enumerate() {
                    *plan = rows.plan(isa, which.start + first + i, io.span(first + i).source(), guards);
                }
                for (i, plan) in group.iter().enumerate() {
                    let (index, span) = (which.start + first + i, io.span(first + i));
                    let row = match rows.narrow(isa, plan) {
                        // Rotates the row without writing the normalised row first.
                        Some(row) if !self.rope.interleaved => {
                            let [scales, shifts] = rows.narrow_operands();
                            let (scales, shifts) = (scales.split_at(len / 2), shifts.split_at(len / 2));
                            let halves = [[scales.0, shifts.0], [scales.1, shifts.1]];
                            self.rope.halves(
                                isa,
                                index,
                                (span, TOGETHER),
                                logits,
                                halves,
                                #[inline(always)]
                                |x: I::F32, operands| row.block::<E>(x, operands),
                            )
                        }
                        _ => {
                            let span = Span::in_place(rows.write(isa, plan, span));
                            isa.outline(rope::OneRow { rope: self.rope, index, span, buffers: logits })
                        }
                    };
                    written = written + row.into();
                }
            }
            return written;
        }
        let is_narrow = self.norm.is_narrow::<I, E>(isa);
        each_lane(
            io,
            #[inline(always)]
            |index, span| {
                let row = isa.outline(OneRow { norm: self.norm, is_narrow, row: index, span, scratch, guards });
                let (span, buffers) = (Span::in_place(row), &mut scratch.logits);
                isa.outline(rope::OneRow { rope: self.rope, index, span, buffers })
            },
        )
    }
}
