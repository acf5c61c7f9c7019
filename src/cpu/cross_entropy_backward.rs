//! Gradient of the cross-entropy. Each row is visited once, to compute its statistics, loss and gradient.

use super::cross_entropy::{CrossEntropy, RowLoss};
use super::exp_sum::ExpSum;
use super::lanes::{GuardCounts, RowIo};
use super::scores::{Exps, Row, is_half};
use super::scratch::{Scratch, lend_scratch};
use crate::element::Element;
use crate::error::Result;
use crate::math::derivative::within;
use crate::math::exp;
use crate::report::Counts;
use crate::rows::{Rows, RowsMut};
use crate::simd::{self, Float, Isa, Kernel, Span, Storage, Work, Written, load_wide};

/// Options of a call.
#[derive(Clone, Copy)]
pub struct Gradient<'a> {
    pub forward: CrossEntropy<'a>,
    /// Upstream gradients: one for each row, or a single one that all rows share.
    pub dloss: &'a [f64],
    /// Divisors of the summed cross-entropy and z-loss. `None` gives a gradient of 0.
    pub divisors: [Option<f64>; 2],
}

/// Computes the gradient of one view, and writes it to another view of the same shape.
pub fn apply<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    losses: &mut [RowLoss],
    op: Gradient<'_>,
) -> Result<(&'a mut [E], Counts)> {
    let (dx, guards) = out.data.write(|to| {
        let io = RowIo::apart(x.into(), to, out.geometry.stride);
        simd::run(Gradients { io, losses, op })
    })?;
    Ok((dx, guards.counts))
}

/// Overwrites the logits with their gradient.
pub fn apply_in_place<E: Element>(
    name: &'static str,
    x: RowsMut<'_, E>,
    losses: &mut [RowLoss],
    op: Gradient<'_>,
) -> Result<Counts> {
    let io = RowIo::in_place(name, x.into())?;
    let (_, guards) = simd::run(Gradients { io, losses, op })?;
    Ok(guards.counts)
}

struct Gradients<'a, 'w, E> {
    io: RowIo<'a, 'w, E>,
    losses: &'a mut [RowLoss],
    op: Gradient<'a>,
}

impl<'w, E: Element> Work for Gradients<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.losses.len()
    }

    fn cols(&self) -> usize {
        self.io.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Gradients { io, losses, op } = self;
        let ((io_a, io_b), (a, b)) = (io.split_at(at), losses.split_at_mut(at));
        (Gradients { io: io_a, losses: a, op }, Gradients { io: io_b, losses: b, op })
    }
}

impl<'w, E: Element> Kernel for Gradients<'_, 'w, E> {
    type Out = (Written<'w>, GuardCounts);

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let (mut written, mut guards) = (Written::default(), GuardCounts::default());
        guards.counts.rows = self.losses.len() as u64;
        let mut lent = lend_scratch();
        let scratch = lent.get();
        for (i, (index, loss)) in self.io.indices().zip(self.losses).enumerate() {
            let span = self.io.span(i);
            let gradient = match self.op.forward.target(index) {
                None => span.fill(E::ZERO),
                Some(target) => {
                    let guards = &mut guards;
                    isa.outline(OneRow { op: &self.op, index, target, span, loss, scratch, guards })
                }
            };
            written = written + gradient.into();
        }
        (written, guards)
    }
}

struct OneRow<'a, 's, E> {
    op: &'a Gradient<'a>,
    index: usize,
    target: usize,
    span: Span<'s, 's, E, E>,
    loss: &'a mut RowLoss,
    scratch: &'a mut Scratch,
    guards: &'a mut GuardCounts,
}

impl<'s, E: Element> Kernel for OneRow<'_, 's, E> {
    type Out = &'s mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'s mut [E] {
        let OneRow { op, index, target, span, loss, scratch, guards } = self;
        let Scratch { logits, widened, made, .. } = scratch;
        let (far, len) = (span.is_far(), span.len());
        let (x, row) = op.forward.scores.read_widened(isa, index, span.source(), far, (widened, logits));
        let Row::Live(live) = row else {
            *loss = op.forward.fill_value::<E>(&row, index, target, guards);
            return span.fill(if matches!(row, Row::Masked) { E::ZERO } else { E::NAN });
        };
        let columns = &x[live.columns.clone()];
        let exps = live.exps(isa, columns, len, !is_half::<E>(), made);
        let sum = exps.sum_for_log(isa, len, || live.finer(isa, columns));
        let log_sum = sum.log::<I, E>(isa, len);
        *loss = op.forward.loss(isa, x, target, &live, log_sum);
        let factors = op.factors(index, target, len, live.max + log_sum);
        let parts = Parts::new::<E>(&sum, exps.at(target), len);
        op.write(isa, (0, target), span, exps, &factors, &parts)
    }
}

/// Factors of a row's gradient. With the probability p_j and the class weight w_j of class j, the gradient is
/// `of_both * p_j - of_weight * w_j` at every column j except the target. At the target t, the gradient is
/// `of_all * p_t - of_weight * w_t - of_target * (1 - p_t)`.
pub struct Factors {
    of_target: f64,
    of_all: f64,
    of_both: f64,
    of_weight: f64,
    /// Bound of a gradient's magnitude before the product with the softcap's derivative, which may be 0. The bound is
    /// infinite if dloss is not finite.
    largest: f64,
}

impl Gradient<'_> {
    /// Returns the factors for a row that has `cols` columns and this log-sum-exp.
    #[inline(always)]
    pub fn factors(&self, index: usize, target: usize, cols: usize, lse: f64) -> Factors {
        let CrossEntropy { label_smoothing, weight_sum, z_loss, .. } = self.forward;
        let dloss = self.dloss[if self.dloss.len() == 1 { 0 } else { index }];
        // A factor that overflows is clamped to the largest f64. Its product with 0 is then 0 instead of NaN. If dloss
        // is not finite, the factor is not clamped.
        let largest = if dloss.is_finite() { f64::MAX } else { f64::INFINITY };
        let finite = |factor: f64| factor.clamp(-largest, largest);
        let [entropy, z] = self.divisors.map(|divisor| divisor.map_or(0.0, |divisor| finite(dloss / divisor)));
        let share = label_smoothing / cols as f64;
        let of_lse = if z_loss == 0.0 { 0.0 } else { finite(finite(z_loss * z) * lse * 2.0) };
        let of_target = finite(entropy * (self.forward.weight(target) * (1.0 - label_smoothing)));
        let of_all = finite(finite(entropy * (share * weight_sum)) + of_lse);
        Factors { of_target, of_all, of_both: finite(of_target + of_all), of_weight: entropy * share, largest }
    }

    /// Writes the gradient of the span, which begins at column `first`. `exps` holds the exponentials of the span's
    /// columns.
    #[inline(always)]
    pub fn write<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        (first, target): (usize, usize),
        span: Span<'d, 'd, E, E>,
        exps: Exps<'_>,
        &Factors { of_target, of_all, of_both, of_weight, largest }: &Factors,
        &Parts { sum, one, others }: &Parts,
    ) -> &'d mut [E] {
        let softcap = self.forward.scores.softcap.map(|cap| (cap, largest));
        let weight = self.forward.weight.map(|weight| &weight[first..first + span.len()]);
        let here = target.checked_sub(first).filter(|at| *at < span.len());
        let smoothed = of_weight * self.forward.weight(target);
        let mut at_target = of_all * (one / sum.0) - smoothed - of_target * (others / sum.0);
        if let (Some((cap, _)), Some(at)) = (softcap, here) {
            let derivative = derivative(isa, isa.f64(span.source()[at].widen()), cap);
            at_target = at_target.clamp(-largest, largest) * isa.array_f64(derivative)[0];
        }
        let factor = over(of_both, sum);
        let plain = of_weight == 0.0 && softcap.is_none();
        let written = match exps {
            Exps::F32 { values, .. } if plain && COMFORTABLE.contains(&factor.0.abs()) => {
                let high = factor.0 as f32;
                let low = (factor.0 - f64::from(high)) as f32;
                let (high, low) = (isa.f32(high), isa.f32(low));
                let ahead = span.ahead(1);
                span.reading(values).map(
                    isa,
                    #[inline(always)]
                    |i, e: I::F32| {
                        ahead.block_for_later(i);
                        e.mul_add(high, e * low)
                    },
                )
            }
            Exps::F32 { values, .. } => isa.outline(General { span, exps: values, factor, of_weight, weight, softcap }),
            Exps::F64 { values } => isa.outline(General { span, exps: values, factor, of_weight, weight, softcap }),
        };
        if let Some(at) = here {
            written[at] = E::from_wide(at_target);
        }
        written
    }
}

/// Range of magnitudes that a float-float pair represents to 48 bits.
const COMFORTABLE: std::ops::Range<f64> = 1e-24..1e24;

/// Computes `factor * e_j - of_weight * w_j` from the exponentials e and the class weights w, and multiplies the result
/// by the softcap's derivative.
struct General<'a, 's, E, S> {
    span: Span<'s, 's, E, E>,
    exps: &'a [S],
    factor: (f64, f64),
    of_weight: f64,
    weight: Option<&'a [f64]>,
    /// The softcap, and [`Factors::largest`].
    softcap: Option<(f64, f64)>,
}

impl<'s, E: Element, S: Storage> Kernel for General<'_, 's, E, S> {
    type Out = &'s mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'s mut [E] {
        let General { span, exps, factor, of_weight, weight, softcap } = self;
        let factors = [isa.f64(factor.0), isa.f64(factor.1), isa.f64(of_weight)];
        match softcap {
            None => span.reading(exps).map(
                isa,
                #[inline(always)]
                |i, e: I::F64| combine(isa, e, factors, weight, i),
            ),
            Some((cap, largest)) => span.map(
                isa,
                #[inline(always)]
                |i, x: I::F64| {
                    let e = load_wide(isa, exps, i, exps[0]);
                    within(isa, combine(isa, e, factors, weight, i), largest) * derivative(isa, x, cap)
                },
            ),
        }
    }
}

#[inline(always)]
fn combine<I: Isa>(
    isa: I,
    e: I::F64,
    [high, low, of_weight]: [I::F64; 3],
    weight: Option<&[f64]>,
    index: usize,
) -> I::F64 {
    let smoothed = match weight {
        None => of_weight,
        Some(weight) => of_weight * load_wide(isa, weight, index, 0.0),
    };
    e.mul_add(high, e * low) - smoothed
}

/// Returns `1 - tanh^2(x / cap)`. It is computed as `4 * t / (1 + t)^2` with `t = e^(-2 * |x / cap|)`, because this
/// form is accurate even where tanh is near 1.
#[inline(always)]
fn derivative<I: Isa>(isa: I, x: I::F64, cap: f64) -> I::F64 {
    let t = exp::exp::<I, f64>(isa, (x / isa.f64(cap)).abs() * isa.f64(-2.0)).round::<f64>(isa);
    let one = t + isa.f64(1.0);
    t * isa.f64(4.0) / (one * one)
}

/// Returns factor / sum as a high and a low part.
#[inline(always)]
fn over(factor: f64, (sum, sum_low): (f64, f64)) -> (f64, f64) {
    let high = factor / sum;
    let low = (-high).mul_add(sum, factor) - high * sum_low;
    // If the quotient is not finite, `low` would be NaN or infinite, and is set to 0. If the quotient is near the
    // smallest f64 numbers, `low` is inexact but negligible.
    (high, if high.is_finite() && low.is_finite() { low / sum } else { 0.0 })
}

/// Sum of all exponentials of a row, and the sum without one of them.
pub struct Parts {
    /// Sum of all exponentials, as a high and a low part.
    pub sum: (f64, f64),
    /// The exponential that `others` does not include.
    pub one: f64,
    /// Sum without the exponential `one`, accurate even if this sum is small.
    pub others: f64,
}

impl Parts {
    /// Computes both sums for a row of length `row_len`: with and without the exponential `one`.
    #[inline(always)]
    pub fn new<E: Element>(sum: &ExpSum, one: f64, row_len: usize) -> Self {
        Parts { sum: sum.value::<E>(row_len), one, others: sum.without::<E>(one, row_len) }
    }
}
