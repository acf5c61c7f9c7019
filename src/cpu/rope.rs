//! Rotary embedding of a row. Each pair is rotated in f64 and rounded once.

use super::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use super::scratch::{Buffers, Scratch, scratch_slice};
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::math::power::Pair;
use crate::math::trig::sin_cos;
use crate::simd::{BLOCK, Float, Isa, Kernel, Load, Span, Written, reserve};

/// Mapping from rows of the tensor to rows of the table.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Number of neighbouring rows that share a position: the heads of `[B, T, H, D]`.
    pub repeat: usize,
    /// Number of positions. After the last position, the rows start again at the first position.
    pub period: usize,
    /// Number of rows of the tensor for each entry of the batch.
    pub batch_rows: usize,
    /// Number of table rows from one batch entry to the next; 0 if all entries share one table.
    pub batch_stride: usize,
}

impl Layout {
    fn table_row(&self, row: usize) -> usize {
        row / self.batch_rows * self.batch_stride + row / self.repeat % self.period
    }
}

#[derive(Clone, Copy)]
pub struct Rope<'a> {
    /// Cosines and sines, `[positions, half]` each.
    pub cos: Floats<'a>,
    pub sin: Floats<'a>,
    pub layout: Layout,
    /// Whether pairs are (2i, 2i + 1) instead of (i, i + half).
    pub interleaved: bool,
    /// Factor of the sines: 1, or -1 to rotate back.
    pub direction: f64,
}

impl<E: Element> LaneKernel<E> for Rope<'_> {
    // AVX2 is up to 20 % faster for f64.
    const GAINS_FROM_AVX512: bool = !E::IS_F64;

    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        _: &mut GuardCounts,
    ) -> Written<'w> {
        each_lane(
            io,
            #[inline(always)]
            |index, span| self.lane(isa, index, span, &mut scratch.made),
        )
    }
}

impl Rope<'_> {
    /// Rotates the row with this index.
    #[inline(always)]
    pub fn lane<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        index: usize,
        span: Span<'_, 'd, E, E>,
        buffers: &mut Buffers,
    ) -> &'d mut [E] {
        if self.interleaved {
            let (buffer, angles) =
                scratch_slice(&mut buffers.f64s, 6 * (span.len() / 2)).split_at_mut(4 * (span.len() / 2));
            return self.rotate(isa, index, angles).neighbours(span, buffer);
        }
        self.halves(
            isa,
            index,
            (span, 1),
            buffers,
            [[], []],
            #[inline(always)]
            |v: I::F64, []| v,
        )
    }

    /// Rotates the row with this index. The elements at the same index of the row's two halves form a pair. Before the
    /// rotation, `of` converts each block of a half. The second argument of `of` holds the blocks at the same index of
    /// `N` other slices: `others_a` for the first half, `others_b` for the second. In 16-bit types, the row that comes
    /// `next` rows after this one is prefetched, if rows are contiguous.
    #[inline(always)]
    pub fn halves<'d, I: Isa, E: Element, V: Load<I>, const N: usize>(
        &self,
        isa: I,
        index: usize,
        (span, next): (Span<'_, 'd, E, E>, usize),
        buffers: &mut Buffers,
        [others_a, others_b]: [[&[f32]; N]; 2],
        of: impl Fn(V, [&[f32; BLOCK]; N]) -> I::F64,
    ) -> &'d mut [E] {
        let half = span.len() / 2;
        let next = span.next(next);
        let rotate = self.rotate(isa, index, scratch_slice(&mut buffers.f64s, 2 * half));
        span.map_halves(
            isa,
            ([rotate.cos, rotate.sin], (others_a, others_b)),
            #[inline(always)]
            |i, [a, b]: [V; 2], (angles, (of_a, of_b))| {
                // Prefetching saves time in 16-bit types, and costs time in f32.
                if size_of::<E>() == 2 {
                    next.block(i);
                    next.from(half).block(i);
                }
                rotate.block([of(a, of_a), of(b, of_b)], angles)
            },
        )
    }

    /// Returns the rotation of the row with this index. `room` receives the cosines and the sines; its length is twice
    /// the number of pairs.
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

/// [`Rope::lane`] compiled as a separate function, for ops where the cost of a call for each row is negligible.
pub struct OneRow<'r, 's, 'a, E> {
    pub rope: Rope<'r>,
    pub index: usize,
    pub span: Span<'a, 'a, E, E>,
    pub buffers: &'s mut Buffers,
}

impl<'a, E: Element> Kernel for OneRow<'_, '_, 'a, E> {
    type Out = &'a mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [E] {
        self.rope.lane(isa, self.index, self.span, self.buffers)
    }
}

/// Rotation of one row.
struct Rotate<'a, I> {
    isa: I,
    cos: &'a [f64],
    sin: &'a [f64],
    direction: f64,
}

impl<I: Isa> Rotate<'_, I> {
    /// Returns `[a * cos - b * sin, a * sin + b * cos]`.
    #[inline(always)]
    fn block(&self, [a, b]: [I::F64; 2], [cos, sin]: [&[f64; BLOCK]; 2]) -> [I::F64; 2] {
        let cos = self.isa.load_f64(cos);
        let sin = self.isa.load_f64(sin) * self.isa.f64(self.direction);
        [a.mul_add(cos, self.isa.f64(0.0) - b * sin), a.mul_add(sin, b * cos)]
    }

    /// Rotates pairs of neighbours: separates them, rotates them, and interleaves the results.
    #[inline(always)]
    fn neighbours<'d, E: Element>(&self, span: Span<'_, 'd, E, E>, buffer: &mut [f64]) -> &'d mut [E] {
        let half = span.len() / 2;
        let (row, pairs) = buffer.split_at_mut(2 * half);
        Span::in_place(&mut *row).reading(span.source()).map(
            self.isa,
            #[inline(always)]
            |_, v: I::F64| v,
        );
        let (a, b) = pairs.split_at_mut(half);
        for i in 0..half {
            (a[i], b[i]) = (row[2 * i], row[2 * i + 1]);
        }
        Span::map_pair(
            [Span::in_place(&mut *a), Span::in_place(&mut *b)],
            self.isa,
            [self.cos, self.sin],
            #[inline(always)]
            |_, pair: [I::F64; 2], angles| self.block(pair, angles),
        );
        for i in 0..half {
            (row[2 * i], row[2 * i + 1]) = (a[i], b[i]);
        }
        span.reading(row).map(
            self.isa,
            #[inline(always)]
            |_, v: I::F64| v,
        )
    }
}

/// Returns the cosines and sines of position * frequency, `[positions, half]` each. Both are multiplied by the factor
/// and then rounded.
pub fn table(op: &'static str, positions: &[i64], frequencies: &[f64], factor: Pair) -> Result<(Vec<f64>, Vec<f64>)> {
    // A product beyond usize saturates, so that the allocation fails.
    let len = positions.len().saturating_mul(frequencies.len());
    let (mut cosines, mut sines) = (reserve(op, "the cosines", len)?, reserve(op, "the sines", len)?);
    for &position in positions {
        for frequency in frequencies {
            // An angle beyond the range of f64 becomes the largest f64. The rotation by so large an angle is arbitrary
            // anyway.
            let (sin, cos) = sin_cos((position as f64 * frequency).clamp(f64::MIN, f64::MAX));
            cosines.push(cos.times(factor).0);
            sines.push(sin.times(factor).0);
        }
    }
    Ok((cosines, sines))
}
