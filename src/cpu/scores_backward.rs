//! Code shared by the gradients of softmax, log_softmax and logsumexp: masked positions, the sum of a lane, and the
//! derivatives of logits with respect to scores.
//!
//! The exponentials come from the op itself ([`super::scores`]); all other arithmetic is f64. The upstream gradient at
//! a masked position has no influence, and the result there is 0. Terms of the sum are indexed by their columns in the
//! whole lane. Thus the bits do not depend on whether a position is masked by bounds, by a flag or by a bias.
//!
//! Very large or very small f64 gradients are scaled by a power of two if their products would leave the range of f64.
//! Sums for f64 have a high and a low part, like the sums of the exponentials.

#[cfg(feature = "sharded")]
pub mod partial;

use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::scores::{Exps, Live, LogitTransform, Logits, Row, is_half};
use super::scratch::{Buffers, Scratch, scratch_slice};
use super::transpose::gather;
use crate::element::Element;
use crate::mask::saturate;
use crate::math::exp::{clamped, exp_parts};
use crate::math::sum::{sum_o, sums_o_beside};
use crate::rows::Lanes;
use crate::simd::{
    BLOCK, Float, Isa, Kernel, MaskBits, PrefetchRow, Select, Span, Written, block_within, fold, load_wide, with_block,
};

/// Gradient formula of one op.
pub trait Formula: Copy + Send + Sync {
    /// Whether the sum of a lane's terms is divided by the sum of the lane's exponentials.
    const MEAN: bool;
    /// Returns a term of the lane's sum for the exponential `e`, and the term's rounding error.
    fn term<I: Isa>(isa: I, e: I::F64, dy: I::F64) -> (I::F64, I::F64);
    /// Returns the gradient of a logit whose softmax is `y`. `sum` is the lane's sum, as a high and a low part.
    fn gradient<I: Isa>(isa: I, y: I::F64, dy: I::F64, sum: (I::F64, I::F64)) -> I::F64;
}

/// Kernel of a gradient: computes the gradients of a lane's scores `x` from the gradients of its results.
#[derive(Clone, Copy)]
pub struct Backward<'m, E, F> {
    pub scores: LogitTransform<'m>,
    pub x: Lanes<'m, E>,
    pub formula: F,
}

impl<E: Element, F: Formula> LaneKernel<E> for Backward<'_, E, F> {
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

impl<E: Element, F: Formula> Backward<'_, E, F> {
    #[inline(always)]
    fn lane<'d, I: Isa>(
        &self,
        isa: I,
        index: usize,
        span: Span<'d, 'd, E, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let mut gathered = Vec::new();
        let x = lane_of(&self.x, index, &mut gathered);
        let Scratch { logits, widened, made, beside } = scratch;
        let (x, row) = self.scores.read_widened(isa, index, x, span.is_far(), (widened, logits));
        let Buffers { f64s, flags, .. } = beside;
        let Some((live, flags)) = live_part(&self.scores, &row, index, x, flags, guards) else {
            return span.fill(E::ZERO);
        };
        let columns = live.columns.clone();
        span.fill_outside(
            columns.clone(),
            E::ZERO,
            #[inline(always)]
            |span| {
                if matches!(row, Row::Live(_)) {
                    let exps = live.exps(isa, &x[columns.clone()], x.len(), !is_half::<E>(), made);
                    if let (Exps::F32 { values, .. }, None, 0, None) =
                        (&exps, flags, columns.start, self.scores.softcap)
                        && !E::IS_F64
                    {
                        return plain::<F, I, E>(isa, &exps, values, self.scores.scale, span, guards);
                    }
                    let sums = Sums::of::<F, I, E>(isa, &exps, span.source(), columns.start, flags, self.scores.scale);
                    if sums.sum.0.is_finite() {
                        let derivatives = derivatives(isa, &self.scores, sums.scale, &x[columns], f64s);
                        write::<F, I, E>(isa, &exps, &sums, derivatives, flags, span)
                    } else {
                        count(span.source(), flags, guards);
                        spoil(flags, span)
                    }
                } else {
                    spoil(flags, span)
                }
            },
        )
    }
}

/// Writes the gradient of a lane of f32, f16 or bf16. The caller guarantees that the lane has no softcap and no flags,
/// and that its logits begin at column 0. The derivative of each logit with respect to its score is then the scale.
#[inline(always)]
fn plain<'d, F: Formula, I: Isa, E: Element>(
    isa: I,
    exps: &Exps<'_>,
    values: &[f32],
    scale: f64,
    span: Span<'d, 'd, E, E>,
    guards: &mut GuardCounts,
) -> &'d mut [E] {
    let reciprocal = exps.reciprocal_wide(isa);
    let [sum] = sums_o_beside(
        isa,
        ([span.source()], E::ZERO),
        ([values], 0.0),
        #[inline(always)]
        |_, [dy], [e], [sum]| [sum + F::term(isa, isa.widen(isa.load_f32(e)), E::load_wide(isa, dy)).0],
    );
    let sums = Sums::new::<F, E>(reciprocal, (sum, 0.0), 1.0, scale);
    if !sums.sum.0.is_finite() {
        count(span.source(), None, guards);
        return spoil(None, span);
    }
    let next = span.next(1);
    let scale = isa.f64(scale);
    span.map_with(
        isa,
        [values],
        #[inline(always)]
        |i, dy: I::F64, [e]| {
            next.block(i);
            sums.gradient::<F, I, E>(isa, isa.widen(isa.load_f32(e)), dy, scale)
        },
    )
}

/// Returns the lane with this index, gathered into a buffer if it is strided.
pub fn lane_of<'s, E: Element>(x: &Lanes<'s, E>, index: usize, gathered: &'s mut Vec<E>) -> &'s [E] {
    let (len, inner) = (x.geometry.len(), x.geometry.inner());
    let group = &x.data[index / inner * x.geometry.stride..][..len * inner];
    if inner == 1 {
        return group;
    }
    gathered.resize(len, E::ZERO);
    gather(group, inner, index % inner, len, gathered);
    gathered
}

/// Returns the logits of a lane, with flags if some of them are masked. Returns `None` if all are masked. Counts the
/// lane in `guards` by its class.
#[inline(always)]
pub fn live_part<'r, 's, E: Element>(
    scores: &LogitTransform<'_>,
    row: &'r Row<'_>,
    index: usize,
    x: &[E],
    buffer: &'s mut Vec<u8>,
    guards: &mut GuardCounts,
) -> Option<(&'r Live<'r>, Option<&'s [u8]>)> {
    // This call counts the lane if it is not live. The returned fill value is not used: it does not depend on the
    // scores, so its gradient is 0.
    row.fill_value(index, scores.fully_masked, guards, E::ZERO, E::ZERO);
    match row {
        Row::Masked => None,
        Row::Live(live) | Row::Nan(live) | Row::Infinite(live) => Some((live, flags(live, x, buffer))),
    }
}

/// Returns a flag for each logit, 0 where it is masked; `None` if none is masked.
fn flags<'s, E: Element>(live: &Live<'_>, x: &[E], buffer: &'s mut Vec<u8>) -> Option<&'s [u8]> {
    if live.min > f64::NEG_INFINITY {
        return None;
    }
    let flags = scratch_slice(buffer, live.columns.len());
    match live.logits {
        Logits::Direct => flag(flags, &x[live.columns.clone()], |z| *z != E::NEG_INFINITY),
        Logits::F32(z) => flag(flags, z, |z| *z != f32::NEG_INFINITY),
        Logits::F64(z) => flag(flags, z, |z| *z != f64::NEG_INFINITY),
    }
    Some(flags)
}

fn flag<T>(flags: &mut [u8], logits: &[T], is_kept: impl Fn(&T) -> bool) {
    flags.iter_mut().zip(logits).for_each(|(flag, z)| *flag = u8::from(is_kept(z)));
}

/// Returns the block with 0 at masked positions.
#[inline(always)]
pub fn kept<I: Isa>(isa: I, flags: Option<&[u8]>, i: usize, value: I::F64) -> I::F64 {
    match flags {
        None => value,
        Some(flags) => with_block(
            flags,
            i,
            0,
            #[inline(always)]
            |flags| select_flagged(isa, flags, value),
        ),
    }
}

/// Returns the value where a flag is set, and 0 elsewhere.
#[inline(always)]
fn select_flagged<I: Isa>(isa: I, flags: &[u8; BLOCK], value: I::F64) -> I::F64 {
    I::F64::select(isa.mask_wide(isa.load_flags(flags).bits()), value, isa.f64(0.0))
}

/// Writes NaN to unmasked positions, and 0 to masked ones.
pub fn spoil<'d, E: Element>(flags: Option<&[u8]>, span: Span<'_, 'd, E, E>) -> &'d mut [E] {
    let to = span.fill(E::NAN);
    for (value, _) in to.iter_mut().zip(flags.unwrap_or(&[])).filter(|(_, flag)| **flag == 0) {
        *value = E::ZERO;
    }
    to
}

/// Counts a lane whose gradients contain a NaN or an infinity.
fn count<E: Element>(dy: &[E], flags: Option<&[u8]>, guards: &mut GuardCounts) {
    let is_live = |i: usize| flags.is_none_or(|flags| flags[i] != 0);
    if dy.iter().enumerate().any(|(i, dy)| is_live(i) && dy.widen().is_nan()) {
        guards.counts.nan += 1;
    } else {
        guards.counts.infinite += 1;
    }
}

/// Returns the block of exponentials with this index. The first exponential is at column `first`.
#[inline(always)]
pub fn weights<I: Isa, E: Element>(isa: I, exps: &Exps<'_>, first: usize, index: usize) -> I::F64 {
    // Rows of f64 have f64 exponentials. All other rows have f32 exponentials.
    match exps {
        Exps::F64 { values } if E::IS_F64 => isa.load_f64(&block_within(values, first, index, 0.0)),
        Exps::F32 { values, .. } if !E::IS_F64 => isa.widen(isa.load_f32(&block_within(values, first, index, 0.0))),
        _ => isa.f64(0.0),
    }
}

/// Values that all gradients of a lane share.
struct Sums {
    /// 1 / the sum of the exponentials, as a high and a low part.
    reciprocal: (f64, f64),
    /// Sum of the formula's terms, as a high and a low part; not finite if an upstream gradient is not.
    sum: (f64, f64),
    /// Power of two. The upstream gradients are multiplied by it before any other computation.
    up: f64,
    /// Scale of the scores, possibly divided by `up`.
    scale: f64,
    /// Factor that cancels `up`; 1 if `scale` is already divided by `up`.
    down: f64,
}

impl Sums {
    #[inline(always)]
    fn of<F: Formula, I: Isa, E: Element>(
        isa: I,
        exps: &Exps<'_>,
        dy: &[E],
        first: usize,
        flags: Option<&[u8]>,
        scale: f64,
    ) -> Self {
        let reciprocal = exps.reciprocal_wide(isa);
        let len = first + dy.len();
        let (mut up, mut range) = (1.0, 0.0);
        if E::IS_F64 {
            (up, range) = normaliser(largest(isa, dy, flags));
        }
        let terms = Terms { exps, dy, first, flags, up };
        if !E::IS_F64 {
            let ahead = PrefetchRow::of(dy, 1);
            let sum = sum_o(
                isa,
                len,
                #[inline(always)]
                |i| {
                    ahead.block(i);
                    terms.block::<F, I>(isa, i).0
                },
            );
            return Sums::new::<F, E>(reciprocal, (sum, 0.0), up, scale);
        }
        let grid = isa.f64(grid(range));
        let high = sum_o(
            isa,
            len,
            #[inline(always)]
            |i| (terms.block::<F, I>(isa, i).0 + grid) - grid,
        );
        let low = sum_o(
            isa,
            len,
            #[inline(always)]
            |i| {
                let (term, rest) = terms.block::<F, I>(isa, i);
                (term - ((term + grid) - grid)) + rest
            },
        );
        Sums::new::<F, E>(reciprocal, (high, low), up, scale)
    }

    /// Combines the sums of a lane's terms. For f64, `high` is the sum of the terms rounded to a grid, and `low` is the
    /// sum of the remainders.
    #[inline(always)]
    fn new<F: Formula, E: Element>(reciprocal: (f64, f64), (high, low): (f64, f64), up: f64, scale: f64) -> Self {
        if !E::IS_F64 {
            let sum = if F::MEAN { high * reciprocal.0 } else { high };
            return Sums { reciprocal, sum: (sum, 0.0), up, scale, down: 1.0 };
        }
        let sum = high + low;
        let mut sum = (sum, low - (sum - high));
        if F::MEAN {
            let mean = sum.0 * reciprocal.0;
            let rest = sum.0.mul_add(reciprocal.0, -mean);
            sum = (mean, sum.0.mul_add(reciprocal.1, sum.1.mul_add(reciprocal.0, rest)));
        }
        // Exactly one of `scale` and `down` cancels `up`. With this choice, a product overflows or loses digits only if
        // the result does.
        let (scale, down) = if up > 1.0 && scale.abs() > 1.0 { (scale / up, 1.0) } else { (scale, 1.0 / up) };
        Sums { reciprocal, sum, up, scale, down }
    }

    /// Returns the gradients of a block of scores. `derivative` holds the derivatives of the logits with respect to the
    /// scores, multiplied by [`Sums::scale`].
    #[inline(always)]
    fn gradient<F: Formula, I: Isa, E: Element>(&self, isa: I, e: I::F64, dy: I::F64, derivative: I::F64) -> I::F64 {
        let (high, sum) = (isa.f64(self.reciprocal.0), isa.f64(self.sum.0));
        if !E::IS_F64 {
            return F::gradient(isa, e * high, dy, (sum, isa.f64(0.0))) * derivative;
        }
        let y = e.mul_add(high, e * isa.f64(self.reciprocal.1));
        F::gradient(isa, y, dy * isa.f64(self.up), (sum, isa.f64(self.sum.1))) * derivative * isa.f64(self.down)
    }
}

/// Terms of a lane's sum, indexed by the columns of the whole lane.
struct Terms<'a, E> {
    exps: &'a Exps<'a>,
    dy: &'a [E],
    /// Column of the first term.
    first: usize,
    flags: Option<&'a [u8]>,
    up: f64,
}

impl<E: Element> Terms<'_, E> {
    /// Returns the terms of one block, and their rounding errors.
    #[inline(always)]
    fn block<F: Formula, I: Isa>(&self, isa: I, index: usize) -> (I::F64, I::F64) {
        let dy = E::load_wide(isa, &block_within(self.dy, self.first, index, E::ZERO));
        let dy = match self.flags {
            None => dy,
            Some(flags) => select_flagged(isa, &block_within(flags, self.first, index, 0), dy),
        };
        let dy = if E::IS_F64 { dy * isa.f64(self.up) } else { dy };
        F::term(isa, weights::<I, E>(isa, self.exps, self.first, index), dy)
    }
}

/// Returns the largest unmasked magnitude. It may be +inf; a NaN is ignored.
#[inline(always)]
fn largest<I: Isa, E: Element>(isa: I, dy: &[E], flags: Option<&[u8]>) -> f64 {
    let largest = fold(
        dy,
        E::ZERO,
        isa.f64(0.0),
        #[inline(always)]
        |largest, i, values| {
            let dy = kept(isa, flags, i, E::load_wide(isa, values));
            dy.abs().max(largest)
        },
    );
    isa.max_f64(largest)
}

/// Returns two powers of two for numbers of at most `largest` in magnitude. The first scales the numbers, so that their
/// products with exponentials neither overflow nor underflow. The second is above the largest of these products.
#[inline(always)]
pub fn normaliser(largest: f64) -> (f64, f64) {
    const HUGE: f64 = f64::from_bits((600 + 1023) << 52);
    let up = if largest > HUGE {
        1.0 / HUGE
    } else if largest < 1.0 / HUGE {
        HUGE
    } else {
        1.0
    };
    let power = f64::from_bits((largest * up).to_bits() & f64::INFINITY.to_bits());
    (up, 2.0 * power)
}

/// Returns a number that rounds terms: adding the number to a term, and then subtracting it, rounds the term to a
/// multiple of 2^-31 times `range`. Sums of such multiples are exact, and the remainders are small.
#[inline(always)]
pub fn grid(range: f64) -> f64 {
    1.5 * (1u64 << (52 - 31)) as f64 * range
}

/// Returns `scale` times the derivative of the logit, d logit / d score, for each score. Returns `None` if this product
/// is `scale` for all scores.
#[inline(always)]
pub fn derivatives<'s, I: Isa, E: Element>(
    isa: I,
    scores: &LogitTransform<'_>,
    scale: f64,
    x: &[E],
    buffer: &'s mut Vec<f64>,
) -> Option<&'s [f64]> {
    let cap = scores.softcap?;
    let derivatives = scratch_slice(buffer, x.len());
    isa.outline(Derivatives { scores, cap, scale, x, derivatives: &mut *derivatives });
    Some(derivatives)
}

/// [`derivatives`] under a softcap, compiled as a separate function. It computes `1 - tanh^2 v` as `4 * t / (1 + t)^2`
/// with `t = e^(-2 * |v|)`, a form without cancellation.
struct Derivatives<'a, 's, E> {
    scores: &'a LogitTransform<'a>,
    cap: f64,
    scale: f64,
    x: &'a [E],
    derivatives: &'s mut [f64],
}

impl<E: Element> Kernel for Derivatives<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (cap, score, scale) = (isa.f64(self.cap), isa.f64(self.scores.scale), isa.f64(self.scale));
        Span::in_place(self.derivatives).reading(self.x).map(
            isa,
            #[inline(always)]
            |_, x: I::F64| {
                let v = saturate(isa, x * score, x.abs()) / cap;
                let e = clamped::<I, f64>(isa, v.abs() * isa.f64(-2.0));
                let e = exp_parts(isa, e, isa.f64(0.0)).round::<f64>(isa);
                let one = isa.f64(1.0) + e;
                (isa.f64(4.0) * e / (one * one)) * scale
            },
        );
    }
}

/// Writes the gradients of a lane, in a last pass over it.
#[inline(always)]
fn write<'d, F: Formula, I: Isa, E: Element>(
    isa: I,
    exps: &Exps<'_>,
    sums: &Sums,
    derivatives: Option<&[f64]>,
    flags: Option<&[u8]>,
    span: Span<'d, 'd, E, E>,
) -> &'d mut [E] {
    let ahead = span.ahead(1);
    let scale = isa.f64(sums.scale);
    match derivatives {
        None => span.map(
            isa,
            #[inline(always)]
            |i, dy: I::F64| {
                ahead.block(i);
                let e = weights::<I, E>(isa, exps, 0, i);
                kept(isa, flags, i, sums.gradient::<F, I, E>(isa, e, dy, scale))
            },
        ),
        Some(derivatives) => span.map(
            isa,
            #[inline(always)]
            |i, dy: I::F64| {
                let e = weights::<I, E>(isa, exps, 0, i);
                let derivative = load_wide(isa, derivatives, i, 0.0);
                kept(isa, flags, i, sums.gradient::<F, I, E>(isa, e, dy, derivative))
            },
        ),
    }
}
