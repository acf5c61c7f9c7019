//! Rotary embedding of a row, each pair in f64, rounded once.

use super::lanes::{Ends, LaneKernel, Met, each_lane};
use super::scratch::{Buffers, Scratch, room};
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::math::power::Pair;
use crate::math::trig::sin_cos;
use crate::simd::{Float, Isa, Kernel, LANES, Span, Written, reserve};
use std::ops::Range;

/// Which row of the table a row of the tensor takes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Neighbouring rows that share a position: the heads of `[B, T, H, D]`.
    pub repeat: usize,
    /// Positions, after which they start again.
    pub period: usize,
    /// Rows of the tensor in an entry of the batch, and rows of the table between entries (0: all share one).
    pub batch_rows: usize,
    pub batch_stride: usize,
}

impl Layout {
    fn table_row(&self, row: usize) -> usize {
        row / self.batch_rows * self.batch_stride + row / self.repeat % self.period
    }
}

#[derive(Clone, Copy)]
pub struct Rope<'a> {
    /// `[positions, half]` each.
    pub cos: Floats<'a>,
    pub sin: Floats<'a>,
    pub layout: Layout,
    /// Pairs are (2i, 2i + 1), not (i, i + half).
    pub interleaved: bool,
    /// What sines are multiplied with: 1, or -1 to turn back.
    pub direction: f64,
}

impl<E: Element> LaneKernel<E> for Rope<'_> {
    #[inline(always)]
    fn lanes<I: Isa>(
        &self,
        isa: I,
        which: Range<usize>,
        ends: &mut Ends<'_, E>,
        len: usize,
        scratch: &mut Scratch,
        _: &mut Met,
    ) -> Written {
        each_lane(
            which,
            ends,
            len,
            #[inline(always)]
            |index, span| self.lane(isa, index, span, &mut scratch.made),
        )
    }
}

impl Rope<'_> {
    /// The row of this index.
    #[inline(always)]
    pub fn lane<I: Isa, E: Element>(
        &self,
        isa: I,
        index: usize,
        span: Span<'_, E, E>,
        buffers: &mut Buffers,
    ) -> Written {
        if self.interleaved {
            let (buffer, angles) = room(&mut buffers.f64s, 6 * (span.len() / 2)).split_at_mut(4 * (span.len() / 2));
            return self.rotate(isa, index, angles).neighbours(span, buffer);
        }
        self.halves(
            isa,
            index,
            span,
            buffers,
            [[], []],
            #[inline(always)]
            |block, []| E::load_wide(isa, block),
        )
    }

    /// The row of this index, of which one half pairs with the other, from what `of` makes of its blocks beside those of
    /// other slices as long, halved as well.
    #[inline(always)]
    pub fn halves<I: Isa, E: Element, const N: usize>(
        &self,
        isa: I,
        index: usize,
        span: Span<'_, E, E>,
        buffers: &mut Buffers,
        beside: [[&[f32]; N]; 2],
        of: impl Fn(&[E; LANES], [&[f32; LANES]; N]) -> I::F64,
    ) -> Written {
        let half = span.len() / 2;
        let rotate = self.rotate(isa, index, room(&mut buffers.f64s, 2 * half));
        let (first, second) = span.split_at(half);
        let [first, second] = Span::map_both_with(
            [first, second],
            isa,
            [rotate.cos, rotate.sin],
            beside,
            #[inline(always)]
            |_, [(a, of_a), (b, of_b)], angles| rotate.block([of(a, of_a), of(b, of_b)], angles),
        );
        Written::from(first) + second.into()
    }

    /// That of the row of this index, of as many pairs as there is room for cosines and for sines.
    #[inline(always)]
    fn rotate<'b, I: Isa>(&self, isa: I, index: usize, room: &'b mut [f64]) -> Rotate<'b, I>
    where
        Self: 'b,
    {
        let half = room.len() / 2;
        let at = self.layout.table_row(index) * half;
        let (cos, sin) = room.split_at_mut(half);
        let (cos, sin) = (self.cos.wide(isa, at..at + half, cos), self.sin.wide(isa, at..at + half, sin));
        Rotate { isa, cos, sin, direction: self.direction }
    }
}

/// [`Rope::lane`] as a function of its own, for ops to which a call for each row is nothing.
pub struct OneRow<'r, 's, 'a, E> {
    pub rope: Rope<'r>,
    pub index: usize,
    pub span: Span<'a, E, E>,
    pub buffers: &'s mut Buffers,
}

impl<E: Element> Kernel for OneRow<'_, '_, '_, E> {
    type Out = Written;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Written {
        self.rope.lane(isa, self.index, self.span, self.buffers)
    }
}

/// The rotations of one row.
struct Rotate<'a, I> {
    isa: I,
    cos: &'a [f64],
    sin: &'a [f64],
    direction: f64,
}

impl<I: Isa> Rotate<'_, I> {
    /// (a cos - b sin, a sin + b cos)
    #[inline(always)]
    fn block(&self, [a, b]: [I::F64; 2], [cos, sin]: [&[f64; LANES]; 2]) -> (I::F64, I::F64) {
        let cos = self.isa.load_f64(cos);
        let sin = self.isa.load_f64(sin) * self.isa.f64(self.direction);
        (a.mul_add(cos, self.isa.f64(0.0) - b * sin), a.mul_add(sin, b * cos))
    }

    /// Pairs of neighbours, which are brought apart and together again.
    #[inline(always)]
    fn neighbours<E: Element>(&self, span: Span<'_, E, E>, buffer: &mut [f64]) -> Written {
        let half = span.len() / 2;
        let (row, pairs) = buffer.split_at_mut(2 * half);
        Span::in_place(&mut *row).map_from_wide(
            self.isa,
            span.source(),
            #[inline(always)]
            |_, v| v,
        );
        let (a, b) = pairs.split_at_mut(half);
        for i in 0..half {
            (a[i], b[i]) = (row[2 * i], row[2 * i + 1]);
        }
        Span::map_both_with::<I, f64, f64, 2, 0>(
            [Span::in_place(&mut *a), Span::in_place(&mut *b)],
            self.isa,
            [self.cos, self.sin],
            [[], []],
            #[inline(always)]
            |_, [(a, []), (b, [])], angles| self.block([self.isa.load_f64(a), self.isa.load_f64(b)], angles),
        );
        for i in 0..half {
            (row[2 * i], row[2 * i + 1]) = (a[i], b[i]);
        }
        span.map_from_wide(
            self.isa,
            row,
            #[inline(always)]
            |_, v| v,
        )
        .into()
    }
}

/// Cosine and sine of position * frequency, both times the factor and then rounded, `[positions, half]` each.
pub fn table(op: &'static str, positions: &[i64], frequencies: &[f64], factor: Pair) -> Result<(Vec<f64>, Vec<f64>)> {
    // A product beyond usize saturates, and the allocation fails.
    let len = positions.len().saturating_mul(frequencies.len());
    let (mut cosines, mut sines) = (reserve(op, "the cosines", len)?, reserve(op, "the sines", len)?);
    for &position in positions {
        for frequency in frequencies {
            // An angle beyond f64 is its largest number: some rotation, as any angle of that size is.
            let (sin, cos) = sin_cos((position as f64 * frequency).clamp(f64::MIN, f64::MAX));
            cosines.push(cos.times(factor).0);
            sines.push(sin.times(factor).0);
        }
    }
    Ok((cosines, sines))
}
