//! RMSNorm of a row, all of it in f64; with a residual, of what the residual is rounded to.

use super::lanes::{Ends, LaneKernel, Met};
use super::layer_norm::block_of;
use super::moments::Moments;
use crate::element::{DType, Element};
use crate::error::Result;
use crate::floats::Floats;
use crate::ops::rms_norm::Rounding;
use crate::rows::{Rows, RowsMut};
use crate::simd::{self, Ahead, Isa, LANES, Span, Work, Written, block};

#[derive(Clone, Copy)]
pub struct RmsNorm<'a> {
    pub weight: Option<Floats<'a>>,
    pub weight_offset: f64,
    pub eps: f64,
    pub rounding: Rounding,
}

/// Elements whose weights are widened at a time, on the stack.
pub const RUN: usize = 256;

/// Widens `count` operands from `start` on; without operands the run stays as it is.
#[inline(always)]
pub fn load_run<I: Isa>(isa: I, floats: Option<Floats<'_>>, start: usize, count: usize, run: &mut [f64; RUN]) {
    if let Some(floats) = floats {
        floats.read(isa, start..start + count, run);
    }
}

impl RmsNorm<'_> {
    /// Writes the norm of `x`, or of the span's own source.
    #[inline(always)]
    fn write<I: Isa, E: Element>(&self, isa: I, x: Option<&[E]>, span: Span<'_, E, E>, met: &mut Met) -> Written {
        let moments = Moments::rms(isa, x.unwrap_or_else(|| span.source()), self.eps);
        moments.count(&mut met.counts);
        let (next, next_to) = (Ahead::of(span.source()), span.ahead());
        let mut weights = [1.0; RUN];
        let offset = isa.f64(self.weight_offset);
        let mut written = Written::default();
        let mut rest = span;
        let mut start = 0;
        while rest.len() > 0 {
            let run;
            let count = RUN.min(rest.len());
            (run, rest) = rest.split_at(count);
            load_run(isa, self.weight, start, count, &mut weights);
            let f = Normalise { isa, moments, weights: &weights, offset, rounding: self.rounding };
            let run = match x {
                Some(x) => run.map_from_wide(
                    isa,
                    &x[start..start + count],
                    #[inline(always)]
                    |i, v| f.eval::<E>(i, v),
                ),
                None => run.map_wide(
                    isa,
                    #[inline(always)]
                    |i, v| {
                        next.block(start / LANES + i);
                        next_to.block(start / LANES + i);
                        f.eval::<E>(i, v)
                    },
                ),
            };
            written = written + run.into();
            start += count;
        }
        written
    }
}

struct Normalise<'w, I: Isa> {
    isa: I,
    moments: Moments,
    weights: &'w [f64; RUN],
    offset: I::F64,
    rounding: Rounding,
}

impl<I: Isa> Normalise<'_, I> {
    #[inline(always)]
    fn eval<E: Element>(&self, i: usize, v: I::F64) -> I::F64 {
        let weight = block_of(self.isa, self.weights, i) + self.offset;
        let n = self.moments.normalise::<I, E, false>(self.isa, v);
        match self.rounding {
            Rounding::Once => n * weight,
            Rounding::BeforeWeight => E::round_wide(self.isa, n) * weight,
        }
    }
}

impl<E: Element> LaneKernel<E> for RmsNorm<'_> {
    #[inline(always)]
    fn lane<I: Isa>(&self, isa: I, _: usize, span: Span<'_, E, E>, met: &mut Met) -> Written {
        self.write(isa, None, span, met)
    }
}

/// x + residual and its norm, from two views into two.
pub fn with_residual<'a, E: Element>(
    [x, residual]: [Rows<'_, E>; 2],
    [out, residual_out]: [RowsMut<'a, E>; 2],
    kernel: RmsNorm<'_>,
) -> Result<([&'a mut [E]; 2], Met)> {
    let (rows, cols) = (x.rows(), x.cols());
    let strides = [out.geometry.stride, residual_out.geometry.stride];
    let (to, finish) = out.data.start();
    let (residual_to, residual_finish) = residual_out.data.start();
    let x = Ends::apart(x.data, x.geometry.stride, to, strides[0]);
    let residual = Ends::apart(residual.data, residual.geometry.stride, residual_to, strides[1]);
    let ([written, residual_written], met) = simd::run(WithResidual { x, residual, rows, cols, kernel })?;
    Ok(([finish.done(written), residual_finish.done(residual_written)], met))
}

/// In place: x becomes the norm, the residual the sum.
pub fn with_residual_in_place<E: Element>(
    op: &'static str,
    [x, residual]: [RowsMut<'_, E>; 2],
    kernel: RmsNorm<'_>,
) -> Result<Met> {
    let (rows, cols) = (x.rows(), x.cols());
    let x = Ends::in_place(op, x.into())?;
    let residual = Ends::in_place(op, residual.into())?;
    Ok(simd::run(WithResidual { x, residual, rows, cols, kernel })?.1)
}

/// The norm of x + residual, and that sum.
struct WithResidual<'a, E> {
    x: Ends<'a, E>,
    residual: Ends<'a, E>,
    rows: usize,
    cols: usize,
    kernel: RmsNorm<'a>,
}

impl<E: Element> Work for WithResidual<'_, E> {
    type Out = ([Written; 2], Met);

    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let WithResidual { x, residual, rows, cols, kernel } = self;
        let (x_a, x_b) = x.split_at(at);
        let (residual_a, residual_b) = residual.split_at(at);
        (
            WithResidual { x: x_a, residual: residual_a, rows: at, cols, kernel },
            WithResidual { x: x_b, residual: residual_b, rows: rows - at, cols, kernel },
        )
    }

    fn join(a: Self::Out, b: Self::Out) -> Self::Out {
        ([a.0[0] + b.0[0], a.0[1] + b.0[1]], a.1.join(b.1))
    }

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let mut met = Met::default();
        let mut written = [Written::default(); 2];
        for row in 0..self.rows {
            let x = self.x.span(row, self.cols);
            let sum = self.residual.span(row, self.cols);
            let source = x.source();
            // A sum of two narrow numbers is rounded to f32 and then to the type as if at once: f32 has more than
            // twice their digits (Figueroa, "When is double rounding innocuous?", 1995).
            let sum = if E::DTYPE == DType::F64 {
                sum.map_wide(
                    isa,
                    #[inline(always)]
                    |i, r| E::load_wide(isa, &block(source, i, E::ZERO)) + r,
                )
            } else {
                sum.map(
                    isa,
                    #[inline(always)]
                    |i, r| E::load(isa, &block(source, i, E::ZERO)) + r,
                )
            };
            written[0] = written[0] + self.kernel.write(isa, Some(sum), x, &mut met);
            written[1] = written[1] + sum.into();
        }
        met.counts.rows = self.rows as u64;
        (written, met)
    }
}
