//! Log-softmax of a row: `(z - max) - ln(sum)`. It is computed in f32 for 16-bit types, otherwise in f64, and rounded
//! once.

use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::scores::{Live, LogitTransform, Logits, Row, SumForLog, is_half, logs};
use super::scratch::Scratch;
use crate::element::Element;
use crate::simd::{BLOCK, Isa, NotNan, Span, Storage, Written};

#[derive(Clone, Copy)]
pub struct LogSoftmax<'m>(pub LogitTransform<'m>);

impl<E: Element> LaneKernel<E> for LogSoftmax<'_> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        if self.0.is_bare::<E>() && io.len() <= SHORT && io.rows() > 1 {
            return self.short_lanes(isa, io, scratch, guards);
        }
        each_lane(
            io,
            #[inline(always)]
            |index, span| self.lane(isa, index, span, scratch, guards),
        )
    }
}

/// Maximum length of rows whose logarithms are computed for sixteen rows at a time. The rows are read twice, so sixteen
/// of them should still be in the near caches the second time.
const SHORT: usize = 512;

impl LogSoftmax<'_> {
    /// Writes short rows without options. Sixteen logarithms take as long as one.
    #[inline(always)]
    fn short_lanes<'w, I: Isa, E: Element>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        Scratch { logits, widened, made, .. }: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        let (mut written, first) = (Written::default(), io.indices().start);
        for start in (0..io.rows()).step_by(BLOCK) {
            let rows = start..io.rows().min(start + BLOCK);
            let (mut maxima, mut sums) = ([0.0; BLOCK], [SumForLog::ONE; BLOCK]);
            for row in rows.clone() {
                let span = io.span(row);
                let (x, found) = self.0.read_widened(isa, first + row, span.source(), span.is_far(), (widened, logits));
                maxima[row - start] = match found {
                    Row::Live(live) => {
                        sums[row - start] = live.sum_for_logs(isa, x, span.is_far() && !is_half::<E>(), made);
                        live.max
                    }
                    Row::Nan(_) => f64::NAN,
                    Row::Infinite(_) => f64::INFINITY,
                    Row::Masked => f64::NEG_INFINITY,
                };
            }
            let logs = logs(isa, &sums);
            for row in rows {
                let (max, span) = (maxima[row - start], io.span(row));
                let lane = match Row::known(max, max.is_nan()) {
                    Row::Live(_) => write(isa, max, logs[row - start], span),
                    broken => self.fill(isa, &broken, first + row, span, guards),
                };
                written = written + lane.into();
            }
        }
        written
    }

    #[inline(always)]
    fn lane<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        index: usize,
        span: Span<'d, 'd, E, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let Scratch { logits, widened, made, .. } = scratch;
        let (x, row) = self.0.read_widened(isa, index, span.source(), span.is_far(), (widened, logits));
        let Row::Live(live) = row else { return self.fill(isa, &row, index, span, guards) };
        let log_sum = live.log_sum(isa, x, span.is_far() && !is_half::<E>(), made);
        write_live(isa, &live, log_sum, span)
    }

    #[inline(always)]
    fn fill<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        row: &Row<'_>,
        index: usize,
        span: Span<'d, 'd, E, E>,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let of_len = logs(isa, &[SumForLog { sum: span.len() as f64, log: 0.0 }; BLOCK]);
        let uniform = E::from_wide(-of_len[0]);
        span.fill(row.fill_value(index, self.0.fully_masked, guards, E::NEG_INFINITY, uniform))
    }
}

/// Writes a row or a shard of a row, with -inf in the masked columns at both ends.
#[inline(always)]
pub fn write_live<'d, I: Isa, E: Element>(
    isa: I,
    live: &Live<'_>,
    log_sum: f64,
    span: Span<'d, 'd, E, E>,
) -> &'d mut [E] {
    span.fill_outside(
        live.columns.clone(),
        E::NEG_INFINITY,
        #[inline(always)]
        |span| match live.logits {
            Logits::F64(z) => {
                let (max, log_sum) = (isa.f64(live.max), isa.f64(log_sum));
                span.reading(z).map(
                    isa,
                    #[inline(always)]
                    |_, z: I::F64| (z - max) - log_sum,
                )
            }
            Logits::Direct => write(isa, live.max, log_sum, span),
            Logits::F32(z) => write(isa, live.max, log_sum, span.reading(z)),
        },
    )
}

/// Writes `(z - max) - log_sum`. `z` and `max` are exact, and `z - max <= 0 <= log_sum`, so nothing cancels. The f32
/// roundings are therefore negligible in 16-bit types.
#[inline(always)]
fn write<'a, I: Isa, S: Storage, E: Element>(isa: I, max: f64, log_sum: f64, span: Span<'_, 'a, S, E>) -> &'a mut [E] {
    let next = span.next(1);
    if is_half::<E>() {
        let (max, log_sum) = (isa.f32(max as f32), isa.f32(log_sum as f32));
        return span.map(
            isa,
            #[inline(always)]
            |i, z: I::F32| {
                next.to(i);
                NotNan((z - max) - log_sum)
            },
        );
    }
    let (max, log_sum) = (isa.f64(max), isa.f64(log_sum));
    if E::IS_F64 {
        return span.map(
            isa,
            #[inline(always)]
            |_, z: I::F64| (z - max) - log_sum,
        );
    }
    span.map(
        isa,
        #[inline(always)]
        |i, z: I::F64| {
            next.to(i);
            NotNan(isa.narrow((z - max) - log_sum))
        },
    )
}
