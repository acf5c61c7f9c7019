//! RMSNorm of a row or, with a residual, of the rounded sum of the row and the residual.
//!
//! The sum of squares and the scale of the row are f64. An f32 row well within f32's range is multiplied in pairs of
//! f32. These results are correctly rounded, except for one result in millions. A row of a 16-bit type is multiplied in
//! f32. All other rows are computed in f64 and rounded once.

use super::lanes::{GuardCounts, LaneKernel, RowIo};
use super::moments::{Moments, pair};
use super::norm_rows::{Norm, TOGETHER, are_within, write_row, write_rows};
use super::scratch::{Scratch, lend_scratch};
use super::short_rows::{self, GroupMoments};
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::math::bins::power_of_two;
use crate::options::Rounding;
use crate::rows::{Rows, RowsMut};
use crate::simd::{self, Float, Isa, Kernel, PrefetchSpan, Work, Written};
use std::ops::Range;

#[derive(Clone, Copy)]
pub struct RmsNorm<'a> {
    pub weight: Option<Floats<'a>>,
    pub weight_offset: f64,
    pub eps: f64,
    pub rounding: Rounding,
}

impl Norm for RmsNorm<'_> {
    #[inline(always)]
    fn operands(&self) -> [Option<Floats<'_>>; 2] {
        [self.weight, None]
    }

    #[inline(always)]
    fn moments<I: Isa, E: Element>(&self, isa: I, _: usize, x: &[E], next: PrefetchSpan<E, E>) -> Moments {
        Moments::rms(isa, x, next, self.eps)
    }

    /// With AVX2, grouping rows of f32 costs more time than it saves, because there are too few registers.
    fn is_grouped<I: Isa, E: Element>(&self, len: usize) -> bool {
        short_rows::are_short::<E>(len) && (I::REGISTERS >= 32 || !E::IS_F32)
    }

    #[inline(always)]
    fn moments_of_group<I: Isa, E: Element>(
        &self,
        isa: I,
        io: &mut RowIo<'_, '_, E>,
        rows: Range<usize>,
    ) -> Option<GroupMoments<I>> {
        Some(GroupMoments::rms(isa, io, rows, self.eps))
    }

    #[inline(always)]
    fn value<I: Isa, E: Element>(&self, isa: I, moments: &Moments, v: I::F64, weight: I::F64, _: I::F64) -> I::F64 {
        let weight = weight + isa.f64(self.weight_offset);
        let n = moments.normalise::<I, E, false>(isa, v);
        match self.rounding {
            Rounding::Once => n * weight,
            Rounding::BeforeWeight => E::round_wide(isa, n) * weight,
        }
    }

    /// Returns the number of rows in a group. A group shares the conversion of the weights, which weights in f32 do not
    /// need.
    fn together<E: Element>(&self) -> usize {
        if let Some(Floats::F32(_)) = self.weight { 1 } else { TOGETHER }
    }

    #[inline(always)]
    fn is_narrow<I: Isa, E: Element>(&self, isa: I) -> bool {
        // f32 rows are computed in pairs of f32. These limits and the limit in `factors` make a nonzero product at
        // least 2^-115. If the low part of such a product is subnormal, the product has a relative error of at most
        // 2^-35.
        let (least, most) = if E::IS_F32 { (power_of_two(-25), power_of_two(60) as f32) } else { (0.0, 256.0) };
        !E::IS_F64
            && self.weight_offset == 0.0
            && self.rounding == Rounding::Once
            && are_within(isa, self.weight, least, most)
    }

    #[inline(always)]
    fn factors<E: Element>(&self, moments: &Moments) -> Option<[f32; 3]> {
        let [high, low] = pair(moments.scale());
        let keeps_low = !E::IS_F32 || moments.smallest() * moments.scale() >= power_of_two(-90);
        (moments.has_room() && keeps_low).then_some([high, low, 0.0])
    }

    #[inline(always)]
    fn factors_of_group<I: Isa, E: Element>(&self, isa: I, moments: &GroupMoments<I>) -> ([I::F32; 3], I::M64) {
        let [high, low] = short_rows::pair(isa, moments.scale);
        let mut valid = moments.have_room(isa);
        if E::IS_F32 {
            valid = valid & isa.f64(power_of_two(-90)).le(isa.f64(moments.smallest) * moments.scale);
        }
        ([high, low, isa.f32(0.0)], valid)
    }

    #[inline(always)]
    fn narrow_value<I: Isa, E: Element>(
        &self,
        isa: I,
        [high, low, _]: [I::F32; 3],
        v: I::F32,
        weight: I::F32,
        _: I::F32,
    ) -> I::F32 {
        let n = v * high;
        if !E::IS_F32 {
            return n * weight;
        }
        let rest = v.mul_add(low, v.mul_add(high, isa.f32(-0.0) - n));
        n.mul_add(weight, rest * weight)
    }
}

impl<E: Element> LaneKernel<E> for RmsNorm<'_> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        write_rows(isa, *self, io, scratch, guards)
    }
}

/// Reads `x` and the residual from two views. Writes `x + residual` to a third view, and the norm of this sum to a
/// fourth.
pub fn with_residual<'a, E: Element>(
    [x, residual]: [Rows<'_, E>; 2],
    [out, residual_out]: [RowsMut<'a, E>; 2],
    kernel: RmsNorm<'_>,
) -> Result<([&'a mut [E]; 2], GuardCounts)> {
    let strides = [out.geometry.stride, residual_out.geometry.stride];
    simd::write_all([out.data, residual_out.data], |[to, residual_to]| {
        let x = RowIo::apart(x.into(), to, strides[0]);
        let residual = RowIo::apart(residual.into(), residual_to, strides[1]);
        simd::run(WithResidual { x, residual, kernel })
    })
}

/// Overwrites `x` with the norm of the sum, and the residual with the sum.
pub fn with_residual_in_place<E: Element>(
    op: &'static str,
    [x, residual]: [RowsMut<'_, E>; 2],
    kernel: RmsNorm<'_>,
) -> Result<GuardCounts> {
    let x = RowIo::in_place(op, x.into())?;
    let residual = RowIo::in_place(op, residual.into())?;
    Ok(simd::run(WithResidual { x, residual, kernel })?.1)
}

/// Computation of x + residual, and of the norm of this sum.
struct WithResidual<'a, 'w, E> {
    x: RowIo<'a, 'w, E>,
    residual: RowIo<'a, 'w, E>,
    kernel: RmsNorm<'a>,
}

impl<'w, E: Element> Work for WithResidual<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.x.rows()
    }

    fn cols(&self) -> usize {
        self.x.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let WithResidual { x, residual, kernel } = self;
        let (x_a, x_b) = x.split_at(at);
        let (residual_a, residual_b) = residual.split_at(at);
        (WithResidual { x: x_a, residual: residual_a, kernel }, WithResidual { x: x_b, residual: residual_b, kernel })
    }
}

impl<'w, E: Element> Kernel for WithResidual<'_, 'w, E> {
    type Out = ([Written<'w>; 2], GuardCounts);

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let mut guards = GuardCounts::default();
        let mut written = [Written::default(); 2];
        let is_narrow = self.kernel.is_narrow::<I, E>(isa);
        let mut lent = lend_scratch();
        let scratch = lent.get();
        // Without columns, there is nothing to write. The number of rows may still be huge, so the loop over rows is
        // skipped.
        for row in 0..if self.cols() == 0 { 0 } else { self.rows() } {
            let x = self.x.span(row);
            let sum = self.residual.span(row);
            let source = x.source();
            // Rounding a sum to f32 and then to a 16-bit type equals rounding it once, because f32 has more than twice
            // the digits (Figueroa, "When is double rounding innocuous?", 1995).
            let sum = if E::IS_F64 {
                sum.map_with(
                    isa,
                    [source],
                    #[inline(always)]
                    |_, r: I::F64, [x]| E::load_wide(isa, x) + r,
                )
            } else {
                sum.map_with(
                    isa,
                    [source],
                    #[inline(always)]
                    |_, r: I::F32, [x]| E::load(isa, x) + r,
                )
            };
            let norm = write_row(isa, self.kernel, is_narrow, row, x.reading(sum), scratch, &mut guards);
            written[0] = written[0] + norm.into();
            written[1] = written[1] + sum.into();
        }
        guards.counts.rows = self.x.rows() as u64;
        (written, guards)
    }
}
