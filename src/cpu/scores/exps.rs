//! Exponentials of a row's logits, the sum of the exponentials, and the logarithm of the sum.

use super::{Live, Logits};
use crate::cpu::exp_sum::{ExpSum, RescaleExponent};
use crate::cpu::scratch::{Buffers, scratch_slice};
use crate::element::Element;
use crate::math::exp::{clamped, exp_parts};
use crate::math::fixed_point::{KeptSum, RowSum, sum_bits, sum_exps, units_to_f64};
use crate::math::log::{log, log_scalar};
use crate::math::softmax_exp::{PairExp, SoftmaxExp};
use crate::math::wide::Wide;
use crate::simd::{BLOCK, Float, Isa, Kernel, NotNan, PrefetchSpan, Select, Span, Storage, fold};

/// Exponentials e^(z - max) of a row. The f32 variant also holds the sum of the exponentials.
pub enum Exps<'s> {
    /// Exponentials in f32. `sum` is a fixed-point sum, for a row of length `row_len`.
    F32 {
        values: &'s [f32],
        sum: u128,
        row_len: usize,
    },
    F64 {
        values: &'s [f64],
    },
}

/// Number of elements whose exponentials are summed while they are still in the first-level cache.
const RUN: usize = 4096;
/// Number of exponentials that are computed at a time, on the stack, if only their sum is needed.
const SHORT_RUN: usize = 512;

impl Live<'_> {
    /// Computes the exponentials; `x` holds the scores from which the logits were computed. Prefetches the next row if
    /// `far` is set.
    #[inline(always)]
    pub fn exps<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        x: &[E],
        row_len: usize,
        far: bool,
        buffers: &'s mut Buffers,
    ) -> Exps<'s> {
        isa.outline(Exponentials { live: self, x, row_len, far, buffers })
    }

    #[inline(always)]
    fn exps_inline<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        x: &[E],
        row_len: usize,
        far: bool,
        buffers: &'s mut Buffers,
    ) -> Exps<'s> {
        if E::IS_F64 {
            let values = scratch_slice(&mut buffers.f64s, x.len());
            match self.logits {
                Logits::F64(z) => exp_f64(isa, z, self.max, values),
                Logits::Direct | Logits::F32(_) => exp_f64(isa, x, self.max, values),
            }
            return Exps::F64 { values };
        }
        let values = scratch_slice(&mut buffers.f32s, x.len());
        let span = Span::in_place(&mut *values).with_far(far);
        let sum = match (self.f32s(x), &self.logits) {
            (Some(z), _) => self.exp_f32(isa, span.reading(z), row_len).1,
            (None, Logits::F64(z)) => self.exp_pairs(isa, z, span, row_len).1,
            (None, _) => self.exp_f32(isa, span.reading(x), row_len).1,
        };
        Exps::F32 { values, sum, row_len }
    }

    /// Writes the exponentials of an f32 row to the span's destination, which may be the row itself. Returns the
    /// exponentials with their fixed-point sum.
    #[inline(always)]
    pub fn exps_to<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        span: Span<'_, 'd, E, E>,
        row_len: usize,
    ) -> (&'d mut [E], u128) {
        let span = match self.logits {
            Logits::Direct => span.reading_f32s(),
            Logits::F32(z) => span.reading(z),
            Logits::F64(z) => return self.exp_pairs(isa, z, span, row_len),
        };
        self.exp_f32(isa, span, row_len)
    }

    /// Returns the logits if they are stored as f32; `x` holds the scores from which they were computed.
    #[inline(always)]
    fn f32s<'z, E: Element>(&'z self, x: &'z [E]) -> Option<&'z [f32]> {
        match self.logits {
            Logits::Direct => E::as_f32s(x),
            Logits::F32(z) => Some(z),
            Logits::F64(_) => None,
        }
    }

    /// Writes the exponentials of f32 logits, and returns them with their fixed-point sum.
    #[inline(always)]
    pub fn exp_f32<'d, I: Isa, S: Storage, D: Storage>(
        &self,
        isa: I,
        span: Span<'_, 'd, S, D>,
        row_len: usize,
    ) -> (&'d mut [D], u128) {
        let exp = SoftmaxExp::new(isa, self.max as f32, self.min as f32);
        let next = span.next(1);
        let mut sum = KeptSum::new(row_len);
        let values = span.in_runs(
            RUN,
            #[inline(always)]
            |start, run| {
                let values = exp_run(isa, &exp, next.from(start), run);
                sum.add(isa, values);
                values
            },
        );
        let sum = sum.units(isa, &*values);
        (values, sum)
    }

    /// Returns the sum of the exponentials without storing them. If `far` is set, prefetches the row that follows `z`.
    #[inline(always)]
    fn sum_f32<I: Isa, S: Storage>(&self, isa: I, z: &[S], row_len: usize, far: bool) -> u128 {
        let exp = SoftmaxExp::new(isa, self.max as f32, self.min as f32);
        let mut buffer = [0.0f32; SHORT_RUN];
        let mut sum = RowSum::new(row_len);
        let all = z.len();
        for z in z.chunks(SHORT_RUN) {
            let run = Span::in_place(&mut buffer[..z.len()]).reading(z);
            let next = PrefetchSpan::behind(z, all, far);
            let values = exp_run(isa, &exp, next, run);
            sum.add(isa, values);
        }
        sum.units()
    }

    #[inline(always)]
    fn exp_pairs<'d, I: Isa, S: Storage, D: Storage>(
        &self,
        isa: I,
        z: &[f64],
        to: Span<'_, 'd, S, D>,
        row_len: usize,
    ) -> (&'d mut [D], u128) {
        let exp = PairExp::new(isa);
        let max = isa.f64(self.max);
        let values = to.reading(z).map(
            isa,
            #[inline(always)]
            |_, z: I::F64| exp.exp(z - max),
        );
        let sum = sum_exps(isa, values, row_len);
        (values, sum)
    }

    /// Returns ln of the sum of the exponentials, accurate even if the sum is barely above 1. If `far` is set,
    /// prefetches the memory behind f32 logits.
    #[inline(always)]
    pub fn log_sum<I: Isa, E: Element>(&self, isa: I, x: &[E], far: bool, buffers: &mut Buffers) -> f64 {
        isa.outline(LogSumOf { live: self, x, far, buffers, later: false }).log
    }

    /// Returns the sum of the exponentials, for [`logs`].
    #[inline(always)]
    pub fn sum_for_logs<I: Isa, E: Element>(&self, isa: I, x: &[E], far: bool, buffers: &mut Buffers) -> SumForLog {
        isa.outline(LogSumOf { live: self, x, far, buffers, later: true })
    }

    /// Returns the power of two by which all exponentials except the largest are multiplied before they are summed. `x`
    /// holds the scores from which the logits were computed.
    #[inline(always)]
    pub fn finer<I: Isa, E: Element>(&self, isa: I, x: &[E]) -> RescaleExponent {
        RescaleExponent::new(self.max, self.second(isa, x, self.max))
    }

    /// Returns the largest logit below `max`; `x` holds the scores from which the logits were computed.
    #[inline(always)]
    pub fn second<I: Isa, E: Element>(&self, isa: I, x: &[E], max: f64) -> f64 {
        match self.logits {
            Logits::Direct => isa.outline(Below { z: x, max }),
            Logits::F32(z) => isa.outline(Below { z, max }),
            Logits::F64(z) => isa.outline(Below { z, max }),
        }
    }
}

/// Largest value below a maximum; -inf if there is none.
struct Below<'a, S> {
    z: &'a [S],
    max: f64,
}

impl<S: Storage> Kernel for Below<'_, S> {
    type Out = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let Below { z, max } = self;
        let (max, lowest) = (isa.f64(max), isa.f64(f64::NEG_INFINITY));
        let Some(first) = z.first() else { return f64::NEG_INFINITY };
        let second = fold(
            z,
            *first,
            lowest,
            #[inline(always)]
            |second, _, values| {
                let z = S::load_wide(isa, values);
                I::F64::select(z.lt(max), z, lowest).max(second)
            },
        );
        isa.max_f64(second)
    }
}

/// Sum of a row's exponentials. Its logarithm is ln(`sum`) + `log`, where one of the two terms is 0.
#[derive(Clone, Copy)]
pub struct SumForLog {
    pub sum: f64,
    pub log: f64,
}

impl SumForLog {
    /// Value whose logarithm is 0.
    pub const ONE: SumForLog = SumForLog { sum: 1.0, log: 0.0 };
}

/// Returns the logarithms of sixteen rows' sums. All of them take as long as one.
#[inline(always)]
pub fn logs<I: Isa>(isa: I, sums: &[SumForLog; BLOCK]) -> [f64; BLOCK] {
    isa.outline(Logs(sums))
}

/// [`logs`] compiled as a separate function, which all types share.
struct Logs<'a>(&'a [SumForLog; BLOCK]);

impl Kernel for Logs<'_> {
    type Out = [f64; BLOCK];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [f64; BLOCK] {
        let (mut sums, mut rest) = ([0.0; BLOCK], [0.0; BLOCK]);
        for i in 0..BLOCK {
            (sums[i], rest[i]) = (self.0[i].sum, self.0[i].log);
        }
        let Wide { hi, lo, .. } = log(isa, isa.load_f64(&sums));
        isa.array_f64((hi + lo) + isa.load_f64(&rest))
    }
}

/// [`Live::log_sum`] and [`Live::sum_for_logs`], compiled as one separate function, which three ops share.
struct LogSumOf<'a, 's, E> {
    live: &'a Live<'a>,
    x: &'a [E],
    far: bool,
    buffers: &'s mut Buffers,
    /// Whether the caller computes the logarithm by [`logs`].
    later: bool,
}

impl<E: Element> Kernel for LogSumOf<'_, '_, E> {
    type Out = SumForLog;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> SumForLog {
        let LogSumOf { live, x, far, buffers, later } = self;
        let columns = &x[live.columns.clone()];
        let sum = match (live.f32s(columns), &live.logits) {
            (Some(z), _) => Some(live.sum_f32(isa, z, x.len(), far)),
            (None, Logits::Direct) if !E::IS_F64 => Some(live.sum_f32(isa, columns, x.len(), far)),
            (None, _) => None,
        };
        let log = match sum {
            Some(sum) if later && !is_max_dominated(sum, x.len()) => {
                return SumForLog { sum: units_to_f64(sum, x.len()), log: 0.0 };
            }
            Some(sum) => log_of_units(isa, sum, x.len()),
            None => None,
        };
        let log = match log {
            Some(log) => log,
            None => {
                let exps = live.exps(isa, columns, x.len(), false, buffers);
                exps.sum_for_log(isa, x.len(), || live.finer(isa, columns)).log::<I, E>(isa, x.len())
            }
        };
        SumForLog { sum: 1.0, log }
    }
}

/// Returns ln of a fixed-point sum. Returns `None` if the sum is barely above 1, because the integers then keep too few
/// digits of the terms below the largest.
#[inline(always)]
pub fn log_of_units<I: Isa>(isa: I, sum: u128, row_len: usize) -> Option<f64> {
    if is_max_dominated(sum, row_len) {
        return None;
    }
    let (high, low) = log_scalar(isa, units_to_f64(sum, row_len));
    Some(high + low)
}

/// Returns true if a fixed-point sum is below 1 or only slightly above it.
#[inline(always)]
fn is_max_dominated(sum: u128, row_len: usize) -> bool {
    !leaves_digits(sum.saturating_sub(1 << sum_bits(row_len)), row_len)
}

/// Returns whether a fixed-point sum of this many units is large enough to hide the rounding errors of its terms.
#[inline(always)]
pub fn leaves_digits(units: u128, row_len: usize) -> bool {
    units >= u128::from((row_len as u64) << (sum_bits(row_len) - 21))
}

#[inline(always)]
fn exp_run<'d, I: Isa, S: Storage, D: Storage>(
    isa: I,
    exp: &SoftmaxExp<I>,
    next: PrefetchSpan<S, D>,
    run: Span<'_, 'd, S, D>,
) -> &'d mut [D] {
    if exp.is_narrow() {
        run.map_unrolled(
            isa,
            #[inline(always)]
            |i, x: I::F32| {
                next.source(i);
                NotNan(exp.exp_fast(x))
            },
        )
    } else {
        run.map(
            isa,
            #[inline(always)]
            |_, x: I::F32| NotNan(exp.any(x)),
        )
    }
}

/// [`Live::exps`] compiled as a separate function, which many ops share.
struct Exponentials<'a, 's, E> {
    live: &'a Live<'a>,
    x: &'a [E],
    row_len: usize,
    far: bool,
    buffers: &'s mut Buffers,
}

impl<'s, E: Element> Kernel for Exponentials<'_, 's, E> {
    type Out = Exps<'s>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Exps<'s> {
        self.live.exps_inline(isa, self.x, self.row_len, self.far, self.buffers)
    }
}

/// Computes e^(z - max) in f64, corrected for the rounding error of the difference.
#[inline(always)]
pub fn exp_f64<I: Isa, S: Storage>(isa: I, z: &[S], max: f64, values: &mut [f64]) {
    let max = isa.f64(max);
    let zero = isa.f64(0.0);
    Span::in_place(values).reading(z).map(
        isa,
        #[inline(always)]
        |_, z: I::F64| {
            let difference = z - max;
            let part = difference - z;
            let error = (z - (difference - part)) - (max + part);
            // A difference out of range is clamped, and its rounding error is then set to 0.
            let within = clamped::<I, f64>(isa, difference);
            let error = I::F64::select(within.eq(difference), error, zero);
            exp_parts(isa, within, error).round::<f64>(isa)
        },
    );
}

impl Exps<'_> {
    /// Returns 1 / sum as two f64, the larger first.
    #[inline(always)]
    pub fn reciprocal_wide<I: Isa>(&self, isa: I) -> (f64, f64) {
        match self {
            Exps::F32 { sum, row_len, .. } => (1.0 / units_to_f64(*sum, *row_len), 0.0),
            Exps::F64 { values } => ExpSum::wide(isa, values).inverse::<f64>(values.len()),
        }
    }

    /// Returns the exponential with this index, or 0 past the last.
    #[inline(always)]
    pub fn at(&self, index: usize) -> f64 {
        match self {
            Exps::F32 { values, .. } => values.get(index).map_or(0.0, |e| f64::from(*e)),
            Exps::F64 { values } => values.get(index).copied().unwrap_or(0.0),
        }
    }

    /// Returns the sum of a row's exponentials, precise enough to compute the logarithm of the sum. If the sum is only
    /// slightly above 1, the terms below the largest are scaled by the power of two from `finer` and summed again.
    #[inline(always)]
    pub fn sum_for_log<I: Isa>(&self, isa: I, row_len: usize, finer: impl FnOnce() -> RescaleExponent) -> ExpSum {
        match self {
            &Exps::F32 { values, sum, .. } if is_max_dominated(sum, row_len) => {
                ExpSum::max_dominated(isa, sum, values, finer(), row_len)
            }
            Exps::F32 { sum, .. } => ExpSum::narrow(*sum),
            Exps::F64 { values } => ExpSum::wide_for_log(isa, values, row_len),
        }
    }
}
