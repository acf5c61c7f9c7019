//! Softmax of a row. Exponentials are written to the result, or to a buffer if the result is narrower. Their sum is
//! exact. A second pass multiplies them by 1/sum, which has two parts. In rows without options, this pass also finds
//! the extremes of the next row.

use super::exp_sum::ExpSum;
use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::scores::{Exps, Live, LogitTransform, Plain, Row};
use super::scores_masked::Masked;
use super::scratch::{Buffers, Scratch, scratch_slice};
use crate::element::Element;
use crate::math::fixed_point::units_to_f64;
use crate::simd::{Float, Isa, Kernel, PrefetchSpan, Span, Storage, Written};
use std::ops::Range;

#[derive(Clone, Copy)]
pub struct Softmax<'m>(pub LogitTransform<'m>);

impl<E: Element> LaneKernel<E> for Softmax<'_> {
    #[inline(always)]
    fn lanes<I: Isa>(
        &self,
        isa: I,
        which: Range<usize>,
        io: &mut RowIo<'_, E>,
        len: usize,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written {
        if !self.0.is_bare::<E>() || which.is_empty() {
            return each_lane(
                which,
                io,
                len,
                #[inline(always)]
                |index, span| self.lane(isa, index, span, scratch, guards),
            );
        }
        let mut written = Written::default();
        let mut plain = Some(Plain::first(isa, io.span(0, len).source()));
        for (i, index) in which.clone().enumerate() {
            let row = plain.as_ref().map_or(Row::Masked, |plain| plain.row(len));
            let (span, next) = io.span_and_next(i, len, which.len());
            if index + 1 == which.end {
                plain = None;
            }
            let Row::Live(live) = row else {
                plain = plain.map(
                    #[inline(always)]
                    |_| Plain::first(isa, next),
                );
                written = written + self.fill_value(&row, index, span, guards);
                continue;
            };
            written = written + write(isa, &live, span, len, &mut scratch.made, None, &mut plain, next);
        }
        written
    }
}

impl Softmax<'_> {
    #[inline(always)]
    fn lane<I: Isa, E: Element>(
        &self,
        isa: I,
        index: usize,
        span: Span<'_, E, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written {
        let Scratch { logits, made, beside } = scratch;
        let masked = self.0.masked(isa, index, span.source(), span.is_far(), [&mut *logits, beside]);
        if let Some(masked) = masked {
            let row_len = span.len();
            // Inlined, because a call would be measurable in rows of 128 columns.
            return Write { row: With::Masked(&masked), span, row_len, made, inverse: None }.run(isa);
        }
        let row = self.0.read(isa, index, span.source(), logits);
        let Row::Live(live) = row else {
            return self.fill_value(&row, index, span, guards);
        };
        let row_len = span.len();
        isa.outline(Write { row: With::Live(&live), span, row_len, made, inverse: None })
    }

    #[inline(always)]
    fn fill_value<E: Element>(
        &self,
        row: &Row<'_>,
        index: usize,
        span: Span<'_, E, E>,
        guards: &mut GuardCounts,
    ) -> Written {
        let uniform = E::from_wide(1.0 / span.len() as f64);
        span.fill(row.fill_value(index, self.0.fully_masked, guards, E::ZERO, uniform)).into()
    }
}

/// 1 / sum in two parts, given for a shard of a row. It is `None` for a complete row, where it is computed from the
/// exponentials.
pub type Inverse = Option<(f64, f64)>;

#[inline(always)]
fn inverse_f32(inverse: Inverse, sum: u128, row_len: usize) -> (f32, f32) {
    let (inverse, _) = inverse.unwrap_or_else(|| (1.0 / units_to_f64(sum, row_len), 0.0));
    let high = inverse as f32;
    (high, (inverse - f64::from(high)) as f32)
}

/// Kernel that writes the softmax of a row with options, or of a shard of a row.
pub struct Write<'l, 'b, 'a, E> {
    pub row: With<'l, 'b>,
    pub span: Span<'a, E, E>,
    pub row_len: usize,
    pub made: &'l mut Buffers,
    pub inverse: Inverse,
}

/// Logits of the row.
pub enum With<'l, 'b> {
    /// Not stored: they are computed again from scores and bias.
    Masked(&'l Masked<'b>),
    /// In a buffer, or the scores themselves.
    Live(&'l Live<'b>),
}

impl<E: Element> Kernel for Write<'_, '_, '_, E> {
    type Out = Written;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Written {
        let Write { row, span, row_len, made, inverse } = self;
        let columns = match row {
            With::Masked(masked) => masked.columns.clone(),
            With::Live(live) => live.columns.clone(),
        };
        let (span, behind) = span.split_at(columns.end);
        let (before, span) = span.split_at(columns.start);
        let written = match row {
            With::Masked(masked) => write_masked(isa, masked, span, row_len, made, inverse),
            With::Live(live) => write(isa, live, span, row_len, made, inverse, &mut None, &[]),
        };
        written + before.fill(E::ZERO).into() + behind.fill(E::ZERO).into()
    }
}

/// Writes the columns of a row whose logits are not stored.
#[inline(always)]
fn write_masked<I: Isa, E: Element>(
    isa: I,
    masked: &Masked<'_>,
    span: Span<'_, E, E>,
    row_len: usize,
    made: &mut Buffers,
    inverse: Inverse,
) -> Written {
    let ahead = span.next(1);
    if E::IS_F32 {
        let (values, sum) = masked.exps_to(isa, span, row_len);
        return divide(isa, Span::in_place(values), inverse_f32(inverse, sum, row_len), ahead, &mut None, &[]);
    }
    let values = scratch_slice(&mut made.f32s, span.len());
    let to = Span::in_place(&mut *values).with_far(span.is_far()).reading(span.source());
    let sum = masked.exps_to(isa, to, row_len).1;
    divide(isa, span.reading(values), inverse_f32(inverse, sum, row_len), ahead, &mut None, &[])
}

/// Writes the columns of a row that have logits. If `plain` is present, it receives the extremes of the row `next`.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn write<I: Isa, E: Element>(
    isa: I,
    live: &Live<'_>,
    span: Span<'_, E, E>,
    row_len: usize,
    made: &mut Buffers,
    inverse: Inverse,
    plain: &mut Option<Plain>,
    next: &[E],
) -> Written {
    let ahead = span.next(1);
    if E::IS_F32 {
        let (values, sum) = live.exps_to(isa, span, row_len);
        return divide(isa, Span::in_place(values), inverse_f32(inverse, sum, row_len), ahead, plain, next);
    }
    match live.exps(isa, span.source(), row_len, span.is_far(), made) {
        Exps::F32 { values, sum, row_len } => {
            divide(isa, span.reading(values), inverse_f32(inverse, sum, row_len), ahead, plain, next)
        }
        Exps::F64 { values } => {
            let (high, low) = match inverse {
                Some(inverse) => inverse,
                None => ExpSum::wide(isa, values).inverse::<f64>(row_len),
            };
            let (high, low) = (isa.f64(high), isa.f64(low));
            span.map_from_wide(
                isa,
                values,
                #[inline(always)]
                |_, e| e.mul_add(high, e * low),
            )
            .into()
        }
    }
}

/// Multiplies the exponentials by 1/sum.
#[inline(always)]
fn divide<I: Isa, S: Storage, E: Element>(
    isa: I,
    span: Span<'_, S, E>,
    (high, low): (f32, f32),
    ahead: PrefetchSpan<E, E>,
    plain: &mut Option<Plain>,
    next: &[E],
) -> Written {
    let (high, low) = (isa.f32(high), isa.f32(low));
    match plain {
        Some(plain) => plain.write(
            isa,
            span,
            next,
            #[inline(always)]
            |i, e| {
                ahead.to(i);
                e.mul_add(high, e * low)
            },
        ),
        None => span.numbers(
            isa,
            #[inline(always)]
            |i, e| {
                ahead.to(i);
                e.mul_add(high, e * low)
            },
        ),
    }
    .into()
}
