//! RMSNorm of the rows of heads, and rotary embedding of what that is rounded to while it is in the nearest cache.

use super::lanes::{Ends, LaneKernel, Met, each_lane};
use super::norm_rows::{Norm, ShortRows, write_row};
use super::rms_norm::RmsNorm;
use super::rope::Rope;
use super::scratch::Scratch;
use crate::element::Element;
use crate::simd::{Isa, Span, Written};
use std::ops::Range;

#[derive(Clone, Copy)]
pub struct QkNormRope<'a> {
    pub norm: RmsNorm<'a>,
    pub rope: Rope<'a>,
}

impl<E: Element> LaneKernel<E> for QkNormRope<'_> {
    #[inline(always)]
    fn lanes<I: Isa>(
        &self,
        isa: I,
        which: Range<usize>,
        ends: &mut Ends<'_, E>,
        len: usize,
        scratch: &mut Scratch,
        met: &mut Met,
    ) -> Written {
        if ShortRows::<RmsNorm<'_>>::are(len) {
            let Scratch { logits, made, beside } = scratch;
            let rows = ShortRows::new::<I, E>(isa, &self.norm, len, [made, beside]);
            return each_lane(
                which,
                ends,
                len,
                #[inline(always)]
                |index, span| self.rope.lane(isa, index, Span::in_place(rows.write(isa, index, span, met)), logits),
            );
        }
        let is_narrow = self.norm.is_narrow::<I, E>(isa);
        each_lane(
            which,
            ends,
            len,
            #[inline(always)]
            |index, span| {
                let row = write_row(isa, self.norm, is_narrow, index, span, scratch, met);
                self.rope.lane(isa, index, Span::in_place(row), &mut scratch.logits)
            },
        )
    }
}
