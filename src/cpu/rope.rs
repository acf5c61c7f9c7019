//! Rotary embedding of a row, each pair in f64, rounded once.

use super::lanes::{LaneKernel, Met};
use super::scratch::{self, room};
use crate::element::Element;
use crate::floats::Floats;
use crate::math::trig::sin_cos;
use crate::simd::{Float, Isa, LANES, Span, Written, block};

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
}

impl<E: Element> LaneKernel<E> for Rope<'_> {
    #[inline(always)]
    fn lane<I: Isa>(&self, isa: I, index: usize, span: Span<'_, E, E>, _: &mut Met) -> Written {
        scratch::with(
            #[inline(always)]
            |scratch| {
                let half = span.len() / 2;
                let at = self.layout.table_row(index) * half;
                let (table, values) =
                    (room(&mut scratch.logits.f64s, 2 * half), room(&mut scratch.made.f64s, 4 * half));
                let (cos, sin) = table.split_at_mut(half);
                self.cos.read(isa, at..at + half, cos);
                self.sin.read(isa, at..at + half, sin);
                let (row, pairs) = values.split_at_mut(2 * half);
                Span::in_place(&mut *row).map_from_wide(
                    isa,
                    span.source(),
                    #[inline(always)]
                    |_, v| v,
                );
                if !self.interleaved {
                    let (a, b) = row.split_at(half);
                    let (first, second) = span.split_at(half);
                    return Written::from(first.map_from_wide(
                        isa,
                        a,
                        #[inline(always)]
                        |i, a| first_of(isa, a, load(isa, b, i), load(isa, cos, i), load(isa, sin, i)),
                    )) + second
                        .map_from_wide(
                            isa,
                            b,
                            #[inline(always)]
                            |i, b| second_of(load(isa, a, i), b, load(isa, cos, i), load(isa, sin, i)),
                        )
                        .into();
                }
                let (a, b) = pairs.split_at_mut(half);
                for i in 0..half {
                    (a[i], b[i]) = (row[2 * i], row[2 * i + 1]);
                }
                for i in (0..half).step_by(LANES) {
                    let (x, y) = (load(isa, a, i / LANES), load(isa, b, i / LANES));
                    let (c, s) = (load(isa, cos, i / LANES), load(isa, sin, i / LANES));
                    let first = isa.array_f64(first_of(isa, x, y, c, s));
                    let second = isa.array_f64(second_of(x, y, c, s));
                    for j in i..half.min(i + LANES) {
                        (row[2 * j], row[2 * j + 1]) = (first[j - i], second[j - i]);
                    }
                }
                span.map_from_wide(
                    isa,
                    row,
                    #[inline(always)]
                    |_, v| v,
                )
                .into()
            },
        )
    }
}

#[inline(always)]
fn load<I: Isa>(isa: I, values: &[f64], i: usize) -> I::F64 {
    isa.load_f64(&block(values, i, 0.0))
}

/// a cos - b sin
#[inline(always)]
fn first_of<I: Isa>(isa: I, a: I::F64, b: I::F64, cos: I::F64, sin: I::F64) -> I::F64 {
    a.mul_add(cos, isa.f64(0.0) - b * sin)
}

/// a sin + b cos
#[inline(always)]
fn second_of<F: Float>(a: F, b: F, cos: F, sin: F) -> F {
    a.mul_add(sin, b * cos)
}

/// Cosine and sine of position * frequency, `[positions, half]` each.
pub fn table(positions: &[i64], frequencies: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let angles = positions.iter().flat_map(|&p| {
        // An angle beyond f64 is its largest number: some rotation, as any angle of that size is.
        frequencies.iter().map(move |f| (p as f64 * f).clamp(f64::MIN, f64::MAX))
    });
    angles.map(sin_cos).map(|(sin, cos)| (cos, sin)).unzip()
}
