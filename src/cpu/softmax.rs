//! Softmax of a row: exponentials to a buffer, their exact sum, and one product with 1/sum in two parts.

use super::lanes::{LaneKernel, Met};
use super::scores::{Exps, Row, Scores, reciprocal_f64};
use super::scratch;
use crate::element::{DType, Element};
use crate::simd::{Float, Isa, Span, Written};

#[derive(Clone, Copy)]
pub struct Softmax<'m>(pub Scores<'m>);

impl<E: Element> LaneKernel<E> for Softmax<'_> {
    #[inline(always)]
    fn lane<I: Isa>(&self, isa: I, index: usize, span: Span<'_, E, E>, met: &mut Met) -> Written {
        scratch::with(
            #[inline(always)]
            |scratch| {
                let row = self.0.read(isa, index, span.source(), &mut scratch.logits);
                let Row::Live(live) = row else {
                    let uniform = E::from_wide(1.0 / span.len() as f64);
                    return span.fill(row.stand_in(index, self.0.fully_masked, met, E::ZERO, uniform)).into();
                };
                let row_len = span.len();
                if E::DTYPE == DType::F32 {
                    let (span, behind) = span.split_at(live.columns.end);
                    let (before, span) = span.split_at(live.columns.start);
                    let ahead = span.ahead(1);
                    let (values, sum) = live.exps_to(isa, span, row_len);
                    let (high, low) = Exps::reciprocal(sum, row_len);
                    let (high, low) = (isa.f32(high), isa.f32(low));
                    let written: Written = Span::in_place(values)
                        .numbers(
                            isa,
                            #[inline(always)]
                            |i, e| {
                                ahead.block(i);
                                e.mul_add(high, e * low)
                            },
                        )
                        .into();
                    return written + before.fill(E::ZERO).into() + behind.fill(E::ZERO).into();
                }
                let exps = live.exps(isa, span.source(), &mut scratch.made);
                let (span, behind) = span.split_at(live.columns.end);
                let (before, span) = span.split_at(live.columns.start);
                let written: Written = match exps {
                    Exps::F32 { values, sum, row_len } => {
                        let (high, low) = Exps::reciprocal(sum, row_len);
                        let (high, low) = (isa.f32(high), isa.f32(low));
                        let ahead = span.ahead(1);
                        span.reading(values)
                            .numbers(
                                isa,
                                #[inline(always)]
                                |i, e| {
                                    ahead.block(i);
                                    e.mul_add(high, e * low)
                                },
                            )
                            .into()
                    }
                    Exps::F64 { values } => {
                        let (high, low) = reciprocal_f64(isa, values);
                        let (high, low) = (isa.f64(high), isa.f64(low));
                        span.map_from_wide(
                            isa,
                            values,
                            #[inline(always)]
                            |_, e| e.mul_add(high, e * low),
                        )
                        .into()
                    }
                };
                written + before.fill(E::ZERO).into() + behind.fill(E::ZERO).into()
            },
        )
    }
}
