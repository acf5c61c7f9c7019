//! Softmax of a row. The exponentials are written to the result, or to a buffer if the result is narrower than f32.
//! They are added exactly. A last pass multiplies them by 1/sum, which is held as a high and a low part. In rows
//! without options, the last pass also finds the extremes of the next row.

use super::exp_sum::ExpSum;
use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::scores::{Exps, Live, LogitTransform, Plain, Row};
use super::scores_masked::Masked;
use super::scratch::{Buffers, Scratch, scratch_slice};
use crate::element::Element;
use crate::math::fixed_point::units_to_f64;
use crate::simd::{Float, Isa, Kernel, NotNan, PrefetchSpan, Span, Storage, Written};

/// Kernel of softmax. The transform of the logits holds all of its options.
impl<E: Element> LaneKernel<E> for LogitTransform<'_> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        let (which, len) = (io.indices(), io.len());
        if !self.is_bare::<E>() || which.is_empty() {
            return each_lane(
                io,
                #[inline(always)]
                |index, span| lane(self, isa, index, span, scratch, guards),
            );
        }
        let mut written = Written::default();
        let mut plain = Some(Plain::first(isa, io.span(0).source()));
        for (i, index) in which.clone().enumerate() {
            let row = plain.as_ref().map_or(Row::Masked, |plain| plain.row(len));
            let (span, next) = io.span_and_next(i);
            if index + 1 == which.end {
                plain = None;
            }
            let Row::Live(live) = row else {
                plain = plain.map(
                    #[inline(always)]
                    |_| Plain::first(isa, next),
                );
                written = written + fill(self, &row, index, span, guards).into();
                continue;
            };
            written = written + write_plain(isa, &live, span, &mut scratch.made, &mut plain, next).into();
        }
        written
    }
}

#[inline(always)]
fn lane<'d, I: Isa, E: Element>(
    transform: &LogitTransform<'_>,
    isa: I,
    index: usize,
    span: Span<'d, 'd, E, E>,
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) -> &'d mut [E] {
    let Scratch { logits, widened: buffer, made, beside } = scratch;
    let (row_len, far) = (span.len(), span.is_far());
    let columns = transform.bounds(index, 0..row_len);
    let (x, found) = transform.widened(isa, index, (span.source(), columns.clone()), far, (buffer, &mut logits.flags));
    let masked =
        transform.masked(isa, index, (x, columns.clone(), found), far, ([&mut *logits, beside], &mut made.f32s));
    if let Some(masked) = masked {
        // `run` is inlined here, because a call would take noticeable time in rows of 128 columns.
        return Write { row: &masked, span, row_len, widened: buffer, made, inverse: None }.run(isa);
    }
    let row = transform.read_found(isa, index, (x, columns, found), logits);
    let Row::Live(live) = row else {
        return fill(transform, &row, index, span, guards);
    };
    isa.outline(Write { row: &live, span, row_len, widened: buffer, made, inverse: None })
}

#[inline(always)]
fn fill<'d, E: Element>(
    transform: &LogitTransform<'_>,
    row: &Row<'_>,
    index: usize,
    span: Span<'d, 'd, E, E>,
    guards: &mut GuardCounts,
) -> &'d mut [E] {
    let uniform = E::from_wide(1.0 / span.len() as f64);
    span.fill(row.fill_value(index, transform.fully_masked, guards, E::ZERO, uniform))
}

/// For a shard of a row: 1 / the sum of exponentials, as a high and a low part. `None` for a complete row, whose sum is
/// computed from its exponentials.
pub type Inverse = Option<(f64, f64)>;

#[inline(always)]
fn inverse_f32(inverse: Inverse, sum: u128, row_len: usize) -> (f32, f32) {
    let (inverse, _) = inverse.unwrap_or_else(|| (1.0 / units_to_f64(sum, row_len), 0.0));
    let high = inverse as f32;
    (high, (inverse - f64::from(high)) as f32)
}

/// Kernel that writes the softmax of a row with options, or of a shard of a row.
pub struct Write<'l, 'a, E, R> {
    pub row: &'l R,
    pub span: Span<'a, 'a, E, E>,
    pub row_len: usize,
    /// The scores widened to f32, if the type has 16 bits.
    pub widened: &'l [f32],
    pub made: &'l mut Buffers,
    pub inverse: Inverse,
}

impl<'a, E: Element> Kernel for Write<'_, 'a, E, Masked<'_>> {
    type Out = &'a mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [E] {
        let Write { row, span, row_len, widened, made, inverse } = self;
        span.fill_outside(
            row.columns.clone(),
            E::ZERO,
            #[inline(always)]
            |span| {
                let ahead = span.next(1);
                let factor = |sum| inverse_f32(inverse, sum, row_len);
                if E::IS_F32 {
                    let (values, sum) = row.exps_to(isa, span.reading_f32s(), row_len);
                    return divide(isa, Span::in_place(values), factor(sum), ahead, &mut None, &[]);
                }
                let values = scratch_slice(&mut made.f32s, span.len());
                let to = Span::in_place(&mut *values).reading(&widened[row.columns.clone()]);
                let sum = row.exps_to(isa, to, row_len).1;
                divide(isa, span.reading(values), factor(sum), ahead, &mut None, &[])
            },
        )
    }
}

impl<'a, E: Element> Kernel for Write<'_, 'a, E, Live<'_>> {
    type Out = &'a mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [E] {
        let Write { row, span, row_len, widened, made, inverse } = self;
        span.fill_outside(
            row.columns.clone(),
            E::ZERO,
            #[inline(always)]
            |span| {
                let ahead = span.next(1);
                let factor = |sum| inverse_f32(inverse, sum, row_len);
                if E::IS_F32 {
                    let (values, sum) = row.exps_to(isa, span, row_len);
                    return divide(isa, Span::in_place(values), factor(sum), ahead, &mut None, &[]);
                }
                let exps = if E::IS_F64 {
                    row.exps(isa, span.source(), row_len, span.is_far(), made)
                } else {
                    row.exps(isa, &widened[row.columns.clone()], row_len, false, made)
                };
                match exps {
                    Exps::F32 { values, sum, .. } => {
                        divide(isa, span.reading(values), factor(sum), ahead, &mut None, &[])
                    }
                    Exps::F64 { values } => {
                        let (high, low) = match inverse {
                            Some(inverse) => inverse,
                            None => ExpSum::wide(isa, values).inverse::<f64>(row_len),
                        };
                        let (high, low) = (isa.f64(high), isa.f64(low));
                        span.reading(values).map(
                            isa,
                            #[inline(always)]
                            |_, e: I::F64| e.mul_add(high, e * low),
                        )
                    }
                }
            },
        )
    }
}

/// Writes a row without options. `plain` receives the extremes of the row `next`.
#[inline(always)]
fn write_plain<'d, I: Isa, E: Element>(
    isa: I,
    live: &Live<'_>,
    span: Span<'d, 'd, E, E>,
    made: &mut Buffers,
    plain: &mut Option<Plain>,
    next: &[E],
) -> &'d mut [E] {
    let (ahead, row_len) = (span.next(1), span.len());
    if E::IS_F32 {
        let (values, sum) = live.exp_f32(isa, span, row_len);
        return divide(isa, Span::in_place(values), inverse_f32(None, sum, row_len), ahead, plain, next);
    }
    let values = scratch_slice(&mut made.f32s, row_len);
    let to = Span::in_place(&mut *values).with_far(span.is_far());
    let sum = live.exp_f32(isa, to.reading(span.source()), row_len).1;
    divide(isa, span.reading(values), inverse_f32(None, sum, row_len), ahead, plain, next)
}

/// Multiplies the exponentials by 1/sum.
#[inline(always)]
fn divide<'d, I: Isa, S: Storage, E: Element>(
    isa: I,
    span: Span<'_, 'd, S, E>,
    (high, low): (f32, f32),
    ahead: PrefetchSpan<E, E>,
    plain: &mut Option<Plain>,
    next: &[E],
) -> &'d mut [E] {
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
        None => span.map(
            isa,
            #[inline(always)]
            |i, e: I::F32| {
                ahead.to(i);
                NotNan(e.mul_add(high, e * low))
            },
        ),
    }
}
