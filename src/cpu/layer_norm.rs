//! LayerNorm of a row. The moments are always f64. Results of 16-bit rows are computed in f32 if the range of f32
//! suffices. All other results are computed in f64 and rounded once.

use super::lanes::{GuardCounts, LaneKernel, RowIo};
use super::moments::Moments;
use super::norm_rows::{Norm, TOGETHER, are_within, write_rows};
use super::scratch::Scratch;
use super::short_rows::GroupMoments;
use crate::element::Element;
use crate::floats::Floats;
use crate::math::bins::power_of_two;
use crate::simd::{Float, Isa, PrefetchSpan, Written};
use std::ops::Range;

#[derive(Clone, Copy)]
pub struct LayerNorm<'a> {
    pub weight: Option<Floats<'a>>,
    pub bias: Option<Floats<'a>>,
    pub eps: f64,
}

impl Norm for LayerNorm<'_> {
    #[inline(always)]
    fn operands(&self) -> [Option<Floats<'_>>; 2] {
        [self.weight, self.bias]
    }

    #[inline(always)]
    fn moments<I: Isa, E: Element>(&self, isa: I, _: usize, x: &[E], next: PrefetchSpan<E, E>) -> Moments {
        Moments::layer(isa, x, next, self.eps)
    }

    #[inline(always)]
    fn moments_of_group<I: Isa, E: Element>(
        &self,
        isa: I,
        io: &mut RowIo<'_, '_, E>,
        rows: Range<usize>,
    ) -> Option<GroupMoments<I>> {
        // For a single row, the moments of a group take longer to compute than the moments of the row.
        (rows.len() > 1).then(
            #[inline(always)]
            || GroupMoments::layer(isa, io, rows, self.eps),
        )
    }

    #[inline(always)]
    fn value<I: Isa, E: Element>(&self, isa: I, moments: &Moments, v: I::F64, weight: I::F64, bias: I::F64) -> I::F64 {
        moments.normalise::<I, E, true>(isa, v).mul_add(weight, bias)
    }

    fn together<E: Element>(&self) -> usize {
        TOGETHER
    }

    #[inline(always)]
    fn is_narrow<I: Isa, E: Element>(&self, isa: I) -> bool {
        !E::IS_F64
            && !E::IS_F32
            && are_within(isa, self.weight, power_of_two(-60), power_of_two(60) as f32)
            && are_within(isa, self.bias, 0.0, f32::MAX)
    }

    #[inline(always)]
    fn factors<E: Element>(&self, moments: &Moments) -> Option<[f32; 3]> {
        let [mean, low] = moments.narrow_mean()?;
        moments.has_room().then_some([mean, low, moments.scale() as f32])
    }

    #[inline(always)]
    fn factors_of_group<I: Isa, E: Element>(&self, isa: I, moments: &GroupMoments<I>) -> ([I::F32; 3], I::M64) {
        let high = isa.narrow(moments.mean);
        let low = (moments.mean - isa.widen(high)) + moments.mean_low;
        let keeps_low = low.eq(isa.f64(0.0)) | isa.f64(f64::from(f32::MIN_POSITIVE)).le(low.abs());
        ([high, isa.narrow(low), isa.narrow(moments.scale)], moments.have_room(isa) & keeps_low)
    }

    /// The result passes through at most six roundings. Their total relative error is at most 6 * 2^-24. Three
    /// roundings are in the difference of a 16-bit number and the mean. Cancellation does not magnify their errors: if
    /// the number is near the mean, subtracting the mean's high part is exact, and otherwise the difference is large.
    /// Three more roundings are in the product and the sum.
    #[inline(always)]
    fn narrow_value<I: Isa, E: Element>(
        &self,
        _: I,
        [mean, low, scale]: [I::F32; 3],
        v: I::F32,
        weight: I::F32,
        bias: I::F32,
    ) -> I::F32 {
        ((v - mean) - low).mul_add(scale * weight, bias)
    }
}

impl<E: Element> LaneKernel<E> for LayerNorm<'_> {
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
