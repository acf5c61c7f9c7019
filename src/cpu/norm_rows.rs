//! Writes normalised rows in runs of columns, so that weights and biases are converted once for several rows. A row
//! whose results stay well within f32's range is computed in f32, all others in f64.

use super::lanes::{GuardCounts, RowIo};
use super::moments::Moments;
use super::scratch::{Buffers, Scratch, scratch_slice};
use super::short_rows::{self, GroupMoments};
use super::smallest::Smallest;
use crate::element::Element;
use crate::floats::Floats;
use crate::simd::{BLOCK, Float, Isa, Kernel, MaskBits, NotNan, PrefetchSpan, Span, Written, fold};
use std::ops::Range;

/// A normalisation of rows.
pub trait Norm: Copy {
    /// Returns the weights and biases of all columns. Absent weights are ones, and absent biases are zeros.
    fn operands(&self) -> [Option<Floats<'_>>; 2];
    /// Computes the moments of the row `x`, which has the index `row`. Prefetches the source of `next`.
    fn moments<I: Isa, E: Element>(&self, isa: I, row: usize, x: &[E], next: PrefetchSpan<E, E>) -> Moments;
    /// Returns what is prefetched by the pass over `span` that computes moments, and by the pass that writes results.
    #[inline(always)]
    fn next<E: Element>(&self, span: &Span<'_, '_, E, E>, lanes: usize) -> [PrefetchSpan<E, E>; 2] {
        span.next_in_passes(lanes)
    }
    /// Returns whether the moments of rows of this length are computed together.
    fn is_grouped<I: Isa, E: Element>(&self, len: usize) -> bool {
        short_rows::are_short::<E>(len)
    }
    /// Computes the moments of short rows of `io` together. Returns `None` if the moments are known.
    #[inline(always)]
    fn moments_of_group<I: Isa, E: Element>(
        &self,
        _: I,
        _: &mut RowIo<'_, '_, E>,
        _: Range<usize>,
    ) -> Option<GroupMoments<I>> {
        None
    }
    /// Returns the index of the weight and bias that belong to the first column of each row.
    fn first_column(&self) -> usize {
        0
    }
    /// Returns the result for the element `v`, in f64.
    fn value<I: Isa, E: Element>(&self, isa: I, moments: &Moments, v: I::F64, weight: I::F64, bias: I::F64) -> I::F64;

    /// Returns the number of rows in a group, for rows of more than [`WIDE_RUN`] columns.
    fn together<E: Element>(&self) -> usize;
    /// Returns whether the operands allow rows of this type to be computed in f32.
    fn is_narrow<I: Isa, E: Element>(&self, isa: I) -> bool;
    /// Returns the factors for computing a row in f32, or `None` if the row's results may leave the range of f32.
    fn factors<E: Element>(&self, moments: &Moments) -> Option<[f32; 3]>;
    /// Returns the factors for computing rows of a group in f32, and the rows for which the factors are valid.
    fn factors_of_group<I: Isa, E: Element>(&self, isa: I, moments: &GroupMoments<I>) -> ([I::F32; 3], I::M64);
    /// Returns the result for the element `v`, in f32.
    fn narrow_value<I: Isa, E: Element>(
        &self,
        isa: I,
        factors: [I::F32; 3],
        v: I::F32,
        weight: I::F32,
        bias: I::F32,
    ) -> I::F32;
}

/// Number of columns whose operands are converted to f32 at a time.
const RUN: usize = 2048;
/// Number of columns whose operands are converted to f64 at a time.
const WIDE_RUN: usize = 512;

/// Maximum number of rows in a group, except for the rows of [`short_rows`]. A group stays in the cache, and its
/// operands are converted once.
pub const TOGETHER: usize = 4;
/// Maximum size in bytes of each row in a group of several rows.
const LONGEST_IN_GROUP: usize = 1 << 14;

/// Writes the rows of `io`.
#[inline(always)]
pub fn write_rows<'w, I: Isa, E: Element>(
    isa: I,
    norm: impl Norm,
    io: &mut RowIo<'_, 'w, E>,
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) -> Written<'w> {
    let (which, len) = (io.indices(), io.len());
    let short = norm.is_grouped::<I, E>(len);
    let together = match len {
        _ if short => short_rows::MOST,
        // In short rows, most time is spent on the sum, its root and the root's reciprocal, because each waits for the
        // previous one. Computing several rows together hides this latency.
        0..=WIDE_RUN => TOGETHER,
        _ if size_of::<E>() * len > LONGEST_IN_GROUP => 1,
        _ => norm.together::<E>().min(TOGETHER),
    };
    let is_narrow = norm.is_narrow::<I, E>(isa);
    let rows = which.len();
    let mut written = Written::default();
    let mut converted = (0..0, [false; 2]);
    for first in (0..rows).step_by(together) {
        let mut group = [Plan::default(); short_rows::MOST];
        let group = &mut group[..together.min(rows - first)];
        let moments = if short { norm.moments_of_group(isa, io, first..first + group.len()) } else { None };
        let done = moments.map_or(
            0,
            #[inline(always)]
            |moments| Plan::group::<I, E>(isa, norm, &moments, is_narrow, group),
        );
        for (i, plan) in group.iter_mut().enumerate() {
            if done >> i & 1 == 0 {
                let span = io.span(first + i);
                let [next, _] = next_of(norm, &span, together, short);
                let x = (span.source(), next);
                *plan = Plan::of(isa, norm, which.start + first + i, x, is_narrow, guards);
            }
        }
        let mut parts = [Written::default(); short_rows::MOST];
        let run = if group.iter().all(|plan| plan.factors.is_some()) { RUN } else { WIDE_RUN };
        for start in (0..len).step_by(run) {
            let columns = start..len.min(start + run);
            let narrow = group.iter().any(|plan| plan.factors.is_some());
            let wide = group.iter().any(|plan| plan.factors.is_none());
            let Scratch { made, beside, .. } = &mut *scratch;
            // If the rows fit in a single run of columns, the buffers still hold the run's operands from the previous
            // group.
            let is_converted = converted == (columns.clone(), [narrow, wide]);
            let operands = Operands::of(isa, &norm, columns.clone(), [narrow, wide], [made, beside], is_converted);
            converted = (columns.clone(), [narrow, wide]);
            for (i, (plan, part)) in group.iter().zip(&mut parts).enumerate() {
                let span = io.span(first + i);
                let [_, next] = next_of(norm, &span, together, short);
                let run = span.split_at(columns.end).0.split_at(columns.start).1;
                *part = *part + operands.write(isa, norm, plan, next.from(start), run).into();
            }
        }
        for part in &parts[..group.len()] {
            written = written + *part;
        }
    }
    written
}

/// Returns what [`Norm::moments`] prefetches, and what is prefetched while the row is written. The choice for
/// [`Norm::moments`] is constant for each type, so that no branch slows its loop.
#[inline(always)]
fn next_of<E: Element>(
    norm: impl Norm,
    span: &Span<'_, '_, E, E>,
    lanes: usize,
    is_grouped: bool,
) -> [PrefetchSpan<E, E>; 2] {
    let (is_16_bit, [first, last]) = (size_of::<E>() == 2, norm.next(span, lanes));
    [
        if is_16_bit { first } else { PrefetchSpan::none() },
        if is_16_bit || is_grouped { last } else { span.next(lanes) },
    ]
}

/// Writes the row with this index and returns the written slice; `is_narrow` is the result of [`Norm::is_narrow`].
#[inline(always)]
pub fn write_row<'a, I: Isa, E: Element>(
    isa: I,
    norm: impl Norm,
    is_narrow: bool,
    row: usize,
    span: Span<'_, 'a, E, E>,
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) -> &'a mut [E] {
    let [next_source, next] = next_of(norm, &span, 1, false);
    let plan = Plan::of(isa, norm, row, (span.source(), next_source), is_narrow, guards);
    span.in_runs(
        WIDE_RUN,
        #[inline(always)]
        |start, run| {
            let (columns, narrow) = (start..start + run.len(), plan.factors.is_some());
            let Scratch { made, beside, .. } = &mut *scratch;
            let operands = Operands::of(isa, &norm, columns, [narrow, !narrow], [made, beside], false);
            operands.write(isa, norm, &plan, next.from(start), run)
        },
    )
}

/// [`write_row`] compiled as a separate function, for ops where the cost of a call for each row is negligible.
pub struct OneRow<'s, 'a, N, E> {
    pub norm: N,
    pub is_narrow: bool,
    pub row: usize,
    pub span: Span<'a, 'a, E, E>,
    pub scratch: &'s mut Scratch,
    pub guards: &'s mut GuardCounts,
}

impl<'a, N: Norm, E: Element> Kernel for OneRow<'_, 'a, N, E> {
    type Out = &'a mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [E] {
        let OneRow { norm, is_narrow, row, span, scratch, guards } = self;
        write_row(isa, norm, is_narrow, row, span, scratch, guards)
    }
}

/// Rows of at most [`WIDE_RUN`] columns. Their shared operands are converted once.
pub struct ShortRows<'a, N> {
    norm: &'a N,
    is_narrow: bool,
    operands: Operands<'a>,
}

impl<'a, N: Norm> ShortRows<'a, N> {
    /// Returns whether rows of this length are short.
    pub fn are(len: usize) -> bool {
        len <= WIDE_RUN
    }

    #[inline(always)]
    pub fn new<I: Isa, E: Element>(isa: I, norm: &'a N, len: usize, buffers: [&'a mut Buffers; 2]) -> Self {
        let is_narrow = norm.is_narrow::<I, E>(isa);
        ShortRows { norm, is_narrow, operands: Operands::of(isa, norm, 0..len, [is_narrow, true], buffers, false) }
    }

    /// Decides how to write the row with this index.
    #[inline(always)]
    pub fn plan<I: Isa, E: Element>(&self, isa: I, row: usize, x: &[E], guards: &mut GuardCounts) -> Plan {
        Plan::of(isa, *self.norm, row, (x, PrefetchSpan::none()), self.is_narrow, guards)
    }

    /// Writes a row and returns the written slice.
    #[inline(always)]
    pub fn write<'s, I: Isa, E: Element>(&self, isa: I, plan: &Plan, span: Span<'_, 's, E, E>) -> &'s mut [E] {
        let next = span.next(TOGETHER);
        self.operands.write(isa, *self.norm, plan, next, span)
    }

    /// Returns the weights and biases in f32, for [`NarrowRow::block`].
    pub fn narrow_operands(&self) -> [&[f32]; 2] {
        self.operands.narrow
    }

    /// Returns a [`NarrowRow`], which computes the row in f32, block by block. Returns `None` if the row's results may
    /// leave the range of f32.
    #[inline(always)]
    pub fn narrow<I: Isa>(&self, isa: I, plan: &Plan) -> Option<NarrowRow<'a, I, N>> {
        let [high, low, mean] = plan.factors?;
        Some(NarrowRow { isa, norm: self.norm, factors: [isa.f32(high), isa.f32(low), isa.f32(mean)] })
    }
}

/// Row that is computed in f32, block by block.
pub struct NarrowRow<'a, I: Isa, N> {
    isa: I,
    norm: &'a N,
    factors: [I::F32; 3],
}

impl<I: Isa, N: Norm> NarrowRow<'_, I, N> {
    /// Computes the results of a block from its elements, weights and biases. The results are rounded to the row's
    /// type.
    #[inline(always)]
    pub fn block<E: Element>(&self, x: I::F32, [weight, bias]: [&[f32; BLOCK]; 2]) -> I::F64 {
        let NarrowRow { isa, norm, factors } = *self;
        let (weight, bias) = (isa.load_f32(weight), isa.load_f32(bias));
        isa.widen(E::round_number(isa, norm.narrow_value::<I, E>(isa, factors, x, weight, bias)))
    }
}

/// Moments of a row, and the factors for computing the row in f32. There are no factors if the row is computed in f64.
#[derive(Clone, Copy, Default)]
pub struct Plan {
    moments: Moments,
    factors: Option<[f32; 3]>,
}

impl Plan {
    #[inline(always)]
    fn of<I: Isa, E: Element>(
        isa: I,
        norm: impl Norm,
        row: usize,
        (x, next): (&[E], PrefetchSpan<E, E>),
        is_narrow: bool,
        guards: &mut GuardCounts,
    ) -> Self {
        let moments = norm.moments(isa, row, x, next);
        moments.count(&mut guards.counts);
        let factors = if is_narrow { norm.factors::<E>(&moments) } else { None };
        Plan { moments, factors }
    }

    /// Plans rows of a group. Returns the planned rows as bits.
    #[inline(always)]
    fn group<I: Isa, E: Element>(
        isa: I,
        norm: impl Norm,
        moments: &GroupMoments<I>,
        is_narrow: bool,
        plans: &mut [Plan],
    ) -> u16 {
        let mut valid = moments.valid;
        let mut factors = [[0.0; BLOCK]; 3];
        if is_narrow {
            let (values, have_factors) = norm.factors_of_group::<I, E>(isa, moments);
            valid = valid & have_factors;
            for i in 0..3 {
                factors[i] = isa.array_f32(values[i]);
            }
        }
        let moments = moments.each(isa);
        for (i, plan) in plans.iter_mut().enumerate() {
            let factors = is_narrow.then_some([factors[0][i], factors[1][i], factors[2][i]]);
            *plan = Plan { moments: moments[i], factors };
        }
        valid.bits()
    }
}

/// Operands of a run of columns, in f32, f64 or both.
struct Operands<'a> {
    narrow: [&'a [f32]; 2],
    wide: [&'a [f64]; 2],
}

impl<'a> Operands<'a> {
    /// Converts the operands of these columns, unless the buffers hold them already.
    #[inline(always)]
    fn of<I: Isa>(
        isa: I,
        norm: &'a impl Norm,
        columns: Range<usize>,
        [some_narrow, some_wide]: [bool; 2],
        buffers: [&'a mut Buffers; 2],
        is_converted: bool,
    ) -> Self {
        static NARROW: [[f32; RUN]; 2] = [[1.0; RUN], [0.0; RUN]];
        static WIDE: [[f64; WIDE_RUN]; 2] = [[1.0; WIDE_RUN], [0.0; WIDE_RUN]];
        let count = columns.len();
        let columns = norm.first_column() + columns.start..norm.first_column() + columns.end;
        let mut operands = Operands {
            narrow: [&NARROW[0][..count], &NARROW[1][..count]],
            wide: [&WIDE[0][..count.min(WIDE_RUN)], &WIDE[1][..count.min(WIDE_RUN)]],
        };
        for ((i, floats), buffers) in norm.operands().into_iter().enumerate().zip(buffers) {
            let Some(floats) = floats else { continue };
            if some_narrow {
                let to = scratch_slice(&mut buffers.f32s, count);
                let is_buffered = is_converted && !matches!(floats, Floats::F32(_));
                operands.narrow[i] = if is_buffered { to } else { floats.narrow(isa, columns.clone(), to) };
            }
            if some_wide {
                let to = scratch_slice(&mut buffers.f64s, count);
                let is_buffered = is_converted && !matches!(floats, Floats::F64(_));
                operands.wide[i] = if is_buffered { to } else { floats.wide(isa, columns.clone(), to) };
            }
        }
        operands
    }

    #[inline(always)]
    fn write<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        norm: impl Norm,
        plan: &Plan,
        next: PrefetchSpan<E, E>,
        run: Span<'_, 's, E, E>,
    ) -> &'s mut [E] {
        // A copy, because the compiler cannot prove that writing the run leaves the plan unchanged.
        let Plan { moments, factors } = *plan;
        let Some(factors) = factors else {
            return run.map_unrolled_with(
                isa,
                self.wide,
                E::IS_F32,
                #[inline(always)]
                |i, v: I::F64, [weight, bias]| {
                    next.block(i);
                    norm.value::<I, E>(isa, &moments, v, isa.load_f64(weight), isa.load_f64(bias))
                },
            );
        };
        let factors = [isa.f32(factors[0]), isa.f32(factors[1]), isa.f32(factors[2])];
        run.map_unrolled_with(
            isa,
            self.narrow,
            E::IS_F32,
            #[inline(always)]
            |i, v: I::F32, [weight, bias]| {
                next.block(i);
                NotNan(norm.narrow_value::<I, E>(isa, factors, v, isa.load_f32(weight), isa.load_f32(bias)))
            },
        )
    }
}

/// Returns whether the magnitude of every nonzero weight is from `least` to `most`. Returns false for a NaN and for f64
/// weights.
#[inline(always)]
pub fn are_within<I: Isa>(isa: I, weights: Option<Floats<'_>>, least: f64, most: f32) -> bool {
    match weights {
        None => true,
        Some(Floats::F64(_)) => false,
        Some(Floats::F32(weights)) => isa.outline(Within { weights, least, most }),
        Some(Floats::F16(weights)) => isa.outline(Within { weights, least, most }),
        Some(Floats::BF16(weights)) => isa.outline(Within { weights, least, most }),
    }
}

/// [`are_within`] for weights of one type.
struct Within<'a, W> {
    weights: &'a [W],
    least: f64,
    most: f32,
}

impl<W: Element> Kernel for Within<'_, W> {
    type Out = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let Within { weights, least, most } = self;
        let most = isa.f32(most);
        let (smallest, others) = fold(
            weights,
            W::ZERO,
            (Smallest::new(isa), most.lt(most)),
            #[inline(always)]
            |(smallest, others), i, values| {
                let magnitudes = W::load(isa, values).abs();
                (smallest.update(i, magnitudes), others | !magnitudes.le(most))
            },
        );
        !others.any() && smallest.found(isa, weights).value >= least
    }
}
