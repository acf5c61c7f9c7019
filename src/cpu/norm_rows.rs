//! Normalised rows, written run by run of columns, so that weights and biases are converted once for several rows: in
//! f32 where a row has room in it, in f64 everywhere else.

use super::lanes::{Ends, Met};
use super::moments::Moments;
use super::scratch::{Buffers, Scratch, room};
use super::smallest::Smallest;
use crate::element::Element;
use crate::floats::Floats;
use crate::simd::{Float, Isa, Kernel, LANES, MaskBits, Next, Span, Written, fold};
use std::ops::Range;

/// What normalises a row.
pub trait Norm: Copy {
    /// A weight and a bias for each column; ones and zeros if there are none.
    fn operands(&self) -> [Option<Floats<'_>>; 2];
    /// Of the row of this index.
    fn moments<I: Isa, E: Element>(&self, isa: I, row: usize, x: &[E]) -> Moments;
    /// Which of the operands' columns is the rows' first one.
    fn first_column(&self) -> usize {
        0
    }
    /// What becomes of `v`.
    fn value<I: Isa, E: Element>(&self, isa: I, moments: &Moments, v: I::F64, weight: I::F64, bias: I::F64) -> I::F64;

    /// How many short rows are written together.
    fn together<E: Element>(&self) -> usize;
    /// Whether the operands leave rows of this type room in f32.
    fn is_narrow<I: Isa, E: Element>(&self, isa: I) -> bool;
    /// What a row is written with in f32, if it has room.
    fn factors<E: Element>(&self, moments: &Moments) -> Option<[f32; 3]>;
    /// What becomes of `v`, in f32.
    fn narrow_value<I: Isa, E: Element>(
        &self,
        isa: I,
        factors: [I::F32; 3],
        v: I::F32,
        weight: I::F32,
        bias: I::F32,
    ) -> I::F32;
}

/// Columns whose operands are converted at a time, on the stack.
const RUN: usize = 2048;
/// The same in f64.
const WIDE_RUN: usize = 512;

/// Rows that share them, if they are short enough to stay in the cache meanwhile.
pub const TOGETHER: usize = 4;
const SHORT: usize = 1 << 14;

/// The rows of these indices and of this length, the first of them at the start of `ends`.
#[inline(always)]
pub fn write_rows<I: Isa, E: Element>(
    isa: I,
    norm: impl Norm,
    ends: &mut Ends<'_, E>,
    which: Range<usize>,
    len: usize,
    scratch: &mut Scratch,
    met: &mut Met,
) -> Written {
    let together = match len {
        // What each row's sum, root and reciprocal wait for takes longer than the rest of it.
        0..=WIDE_RUN => TOGETHER,
        _ if size_of::<E>() * len > SHORT => 1,
        _ => norm.together::<E>().min(TOGETHER),
    };
    let is_narrow = norm.is_narrow::<I, E>(isa);
    let rows = which.len();
    let mut written = Written::default();
    for first in (0..rows).step_by(together) {
        let mut group = [Plan::default(); TOGETHER];
        let group = &mut group[..together.min(rows - first)];
        for (i, plan) in group.iter_mut().enumerate() {
            let row = which.start + first + i;
            *plan = Plan::of(isa, norm, row, ends.span(first + i, len).source(), is_narrow, met);
        }
        let run = if group.iter().all(|plan| plan.factors.is_some()) { RUN } else { WIDE_RUN };
        for start in (0..len).step_by(run) {
            let columns = start..len.min(start + run);
            let narrow = group.iter().any(|plan| plan.factors.is_some());
            let wide = group.iter().any(|plan| plan.factors.is_none());
            let Scratch { made, beside, .. } = &mut *scratch;
            let operands = Operands::of(isa, &norm, columns.clone(), [narrow, wide], [made, beside]);
            for (i, plan) in group.iter().enumerate() {
                let span = ends.span(first + i, len);
                let next = span.next(together);
                let run = span.split_at(columns.end).0.split_at(columns.start).1;
                written = written + operands.write(isa, norm, plan, next.from(start), run).into();
            }
        }
    }
    written
}

/// The row of this index, with [`Norm::is_narrow`] of the norm; returns its memory.
#[inline(always)]
pub fn write_row<'a, I: Isa, E: Element>(
    isa: I,
    norm: impl Norm,
    is_narrow: bool,
    row: usize,
    span: Span<'a, E, E>,
    scratch: &mut Scratch,
    met: &mut Met,
) -> &'a mut [E] {
    let plan = Plan::of(isa, norm, row, span.source(), is_narrow, met);
    let next = span.next(1);
    span.in_runs(
        WIDE_RUN,
        #[inline(always)]
        |first, run| {
            let start = first * LANES;
            let (columns, narrow) = (start..start + run.len(), plan.factors.is_some());
            let Scratch { made, beside, .. } = &mut *scratch;
            let operands = Operands::of(isa, &norm, columns, [narrow, !narrow], [made, beside]);
            operands.write(isa, norm, &plan, next.from(start), run)
        },
    )
}

/// [`write_row`] as a function of its own, for ops to which a call for each row is nothing.
pub struct OneRow<'s, 'a, N, E> {
    pub norm: N,
    pub is_narrow: bool,
    pub row: usize,
    pub span: Span<'a, E, E>,
    pub scratch: &'s mut Scratch,
    pub met: &'s mut Met,
}

impl<'a, N: Norm, E: Element> Kernel for OneRow<'_, 'a, N, E> {
    type Out = &'a mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [E] {
        let OneRow { norm, is_narrow, row, span, scratch, met } = self;
        write_row(isa, norm, is_narrow, row, span, scratch, met)
    }
}

/// Rows of no more than [`WIDE_RUN`] columns; what they share is converted once.
pub struct ShortRows<'a, N> {
    norm: &'a N,
    is_narrow: bool,
    operands: Operands<'a>,
}

impl<'a, N: Norm> ShortRows<'a, N> {
    /// Whether rows of this length are short.
    pub fn are(len: usize) -> bool {
        len <= WIDE_RUN
    }

    #[inline(always)]
    pub fn new<I: Isa, E: Element>(isa: I, norm: &'a N, len: usize, buffers: [&'a mut Buffers; 2]) -> Self {
        let is_narrow = norm.is_narrow::<I, E>(isa);
        ShortRows { norm, is_narrow, operands: Operands::of(isa, norm, 0..len, [is_narrow, true], buffers) }
    }

    /// How to write the row of this index, which is `x`.
    #[inline(always)]
    pub fn plan<I: Isa, E: Element>(&self, isa: I, row: usize, x: &[E], met: &mut Met) -> Plan {
        Plan::of(isa, *self.norm, row, x, self.is_narrow, met)
    }

    /// Writes a row; returns its memory.
    #[inline(always)]
    pub fn write<'s, I: Isa, E: Element>(&self, isa: I, plan: &Plan, span: Span<'s, E, E>) -> &'s mut [E] {
        let next = span.next(TOGETHER);
        self.operands.write(isa, *self.norm, plan, next, span)
    }

    /// Weights and biases, for [`NarrowRow::block`].
    pub fn narrow_operands(&self) -> [&[f32]; 2] {
        self.operands.narrow
    }

    /// A row block by block, if it has room in f32.
    #[inline(always)]
    pub fn narrow<I: Isa>(&self, isa: I, plan: &Plan) -> Option<NarrowRow<'a, I, N>> {
        let [high, low, mean] = plan.factors?;
        Some(NarrowRow { isa, norm: self.norm, factors: [isa.f32(high), isa.f32(low), isa.f32(mean)] })
    }
}

/// How a row is written whose numbers have room in f32.
pub struct NarrowRow<'a, I: Isa, N> {
    isa: I,
    norm: &'a N,
    factors: [I::F32; 3],
}

impl<I: Isa, N: Norm> NarrowRow<'_, I, N> {
    /// What becomes of a block beside those of the operands, rounded to the row's type.
    #[inline(always)]
    pub fn block<E: Element>(&self, x: &[E; LANES], [weight, bias]: [&[f32; LANES]; 2]) -> I::F64 {
        let NarrowRow { isa, norm, factors } = *self;
        let (weight, bias) = (isa.load_f32(weight), isa.load_f32(bias));
        isa.widen(E::round_number(isa, norm.narrow_value::<I, E>(isa, factors, E::load(isa, x), weight, bias)))
    }
}

/// How a row is to be written.
#[derive(Clone, Copy, Default)]
pub struct Plan {
    moments: Moments,
    factors: Option<[f32; 3]>,
}

impl Plan {
    #[inline(always)]
    fn of<I: Isa, E: Element>(isa: I, norm: impl Norm, row: usize, x: &[E], is_narrow: bool, met: &mut Met) -> Self {
        let moments = norm.moments(isa, row, x);
        moments.count(&mut met.counts);
        let factors = if is_narrow { norm.factors::<E>(&moments) } else { None };
        Plan { moments, factors }
    }
}

/// The operands of a run of columns, in the forms that rows are written with.
struct Operands<'a> {
    narrow: [&'a [f32]; 2],
    wide: [&'a [f64]; 2],
}

impl<'a> Operands<'a> {
    #[inline(always)]
    fn of<I: Isa>(
        isa: I,
        norm: &'a impl Norm,
        columns: Range<usize>,
        [some_narrow, some_wide]: [bool; 2],
        buffers: [&'a mut Buffers; 2],
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
                operands.narrow[i] = floats.narrow(isa, columns.clone(), room(&mut buffers.f32s, count));
            }
            if some_wide {
                operands.wide[i] = floats.wide(isa, columns.clone(), room(&mut buffers.f64s, count));
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
        next: Next<E, E>,
        run: Span<'s, E, E>,
    ) -> &'s mut [E] {
        let Some(factors) = plan.factors else {
            return run.map_wide_with(
                isa,
                self.wide,
                #[inline(always)]
                |i, v, [weight, bias]| {
                    next.block(i);
                    norm.value::<I, E>(isa, &plan.moments, v, isa.load_f64(weight), isa.load_f64(bias))
                },
            );
        };
        let factors = [isa.f32(factors[0]), isa.f32(factors[1]), isa.f32(factors[2])];
        run.numbers_with(
            isa,
            self.narrow,
            #[inline(always)]
            |i, v, [weight, bias]| {
                next.block(i);
                norm.narrow_value::<I, E>(isa, factors, v, isa.load_f32(weight), isa.load_f32(bias))
            },
        )
    }
}

/// Whether no weight but 0 is smaller than `least`, larger than `most`, or NaN.
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

/// [`are_within`] of weights of one type.
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
                (smallest.meet(i, magnitudes), others | !magnitudes.le(most))
            },
        );
        !others.any() && smallest.found(isa, weights).value >= least
    }
}
