//! Rotary embedding of a row, each pair in f64, rounded once.

use super::lanes::{Ends, LaneKernel, Met, each_lane};
use super::scratch::{Buffers, Scratch, room};
use crate::element::Element;
use crate::floats::Floats;
use crate::math::power::Pair;
use crate::math::trig::sin_cos;
use crate::simd::{Float, Isa, Span, Written};
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
        let half = span.len() / 2;
        let at = self.layout.table_row(index) * half;
        let rotate = Rotate { isa, cos: self.cos, sin: self.sin, range: at..at + half, direction: self.direction };
        if self.interleaved {
            return rotate.neighbours(span, buffers);
        }
        let (first, second) = span.split_at(half);
        let [first, second] = Span::map_wide_both(
            [first, second],
            isa,
            #[inline(always)]
            |i, a, b| rotate.block(i, a, b),
        );
        Written::from(first) + second.into()
    }
}

/// The rotations of one row.
struct Rotate<'a, I> {
    isa: I,
    cos: Floats<'a>,
    sin: Floats<'a>,
    range: Range<usize>,
    direction: f64,
}

impl<I: Isa> Rotate<'_, I> {
    /// (a cos - b sin, a sin + b cos)
    #[inline(always)]
    fn block(&self, i: usize, a: I::F64, b: I::F64) -> (I::F64, I::F64) {
        let cos = self.cos.block(self.isa, self.range.clone(), i);
        let sin = self.sin.block(self.isa, self.range.clone(), i) * self.isa.f64(self.direction);
        (a.mul_add(cos, self.isa.f64(0.0) - b * sin), a.mul_add(sin, b * cos))
    }

    /// Pairs of neighbours, which are brought apart and together again.
    #[inline(always)]
    fn neighbours<E: Element>(&self, span: Span<'_, E, E>, buffers: &mut Buffers) -> Written {
        let half = span.len() / 2;
        let (row, pairs) = room(&mut buffers.f64s, 4 * half).split_at_mut(2 * half);
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
        Span::map_wide_both(
            [Span::in_place(&mut *a), Span::in_place(&mut *b)],
            self.isa,
            #[inline(always)]
            |i, a, b| self.block(i, a, b),
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
pub fn table(positions: &[i64], frequencies: &[f64], factor: Pair) -> (Vec<f64>, Vec<f64>) {
    let angles = positions.iter().flat_map(|&p| {
        // An angle beyond f64 is its largest number: some rotation, as any angle of that size is.
        frequencies.iter().map(move |f| (p as f64 * f).clamp(f64::MIN, f64::MAX))
    });
    angles.map(sin_cos).map(|(sin, cos)| (cos.times(factor).0, sin.times(factor).0)).unzip()
}
