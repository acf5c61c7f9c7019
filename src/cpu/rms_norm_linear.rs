//! RMSNorm of rows, and the products of the normalised rows with the rows of a matrix. Sums are in f64 by the tiled
//! sum, so the batch size, the number of threads and the instruction set do not change the order of additions. Products
//! of f32 and narrower types neither overflow nor underflow in f64.
//!
//! A group of rows is normalised first. Then the matrix is read once, a few rows at a time. These matrix rows are
//! multiplied with the whole group while the group is in a near cache.

mod products;

use self::products::Products;
use super::lanes::GuardCounts;
use super::moments::{OfRow, largest, unit_for};
use super::norm_rows::{Norm, OneRow};
use super::rms_norm::RmsNorm;
use super::scratch::lend_scratch;
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::math::sum::TILE;
use crate::options::Rounding;
use crate::rows::{Rows, RowsMut};
use crate::simd::{self, Isa, Join, Kernel, Span, Work, Written};

/// Number of rows normalised at a time. The number is large enough for the matrix to be read rarely, and small enough
/// for the rows to stay in a near cache.
const TOGETHER: usize = 64;

#[derive(Clone, Copy)]
pub struct RmsNormLinear<'a, E> {
    pub norm: RmsNorm<'a>,
    /// Whether normalised rows are rounded to their storage type before the products.
    pub rounded: bool,
    /// Matrix with one row for each result.
    pub matrix: Rows<'a, E>,
    pub bias: Option<Floats<'a>>,
}

/// Writes the results of each row.
pub fn apply<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    call: RmsNormLinear<'_, E>,
) -> Result<(&'a mut [E], GuardCounts)> {
    let (rows, cols, results) = (x.rows(), x.cols(), call.matrix.rows());
    let stride = out.geometry.stride;
    // An empty matrix takes no memory, so its number of columns may be huge. No buffer of this length is allocated.
    if rows == 0 || results == 0 && cols == 0 {
        return out.data.write(|_| Ok((Written::default(), GuardCounts::default())));
    }
    let weight = Weight::of(&call.norm, cols);
    let most = rows.min(TOGETHER);
    // Zeros follow each row, up to a whole number of tiles.
    let padded = cols.next_multiple_of(TILE);
    let mut normalised = vec![0.0; most * padded];
    let mut exponents = vec![0; most];
    // The results of one row of the matrix are adjacent, so that threads can split the matrix.
    let mut made = vec![E::ZERO; results * most];
    let mut row_made = vec![E::ZERO; results];
    out.data.write(|mut to| {
        let mut guards = GuardCounts::default();
        let mut written = Written::default();
        for first in (0..rows).step_by(TOGETHER) {
            let count = TOGETHER.min(rows - first);
            let (normalised, exponents) = (&mut normalised[..count * padded], &mut exponents[..count]);
            let call = &call;
            let normalise =
                Normalise { x, first, call, weight: &weight, to: &mut *normalised, exponents: &mut *exponents };
            guards = guards.join(simd::run(normalise)?);
            let made = &mut made[..results * count];
            simd::run(Products { rows: normalised, exponents, call, first: 0, to: &mut *made })?;
            for row in 0..count {
                row_made.iter_mut().zip(made.iter().skip(row).step_by(count)).for_each(|(to, y)| *to = *y);
                let start = (first + row) * stride;
                let to = Span::new(&row_made, to.range(start..start + results));
                written = written + to.copy_from(&row_made).into();
            }
        }
        guards.counts.rows = rows as u64;
        Ok((written, guards))
    })
}

/// Sum of a weight and its offset, times 2^exponent. The exponent keeps products with the weight from overflowing or
/// underflowing.
struct Weight {
    values: Vec<f64>,
    exponent: i32,
}

impl Weight {
    fn of(norm: &RmsNorm<'_>, cols: usize) -> Self {
        let of = |i| norm.weight.map_or(Some(1.0), |weight| weight.get(i)).unwrap_or(f64::NAN) + norm.weight_offset;
        let values: Vec<f64> = (0..cols).map(of).collect();
        let unit = unit_for(values.iter().fold(0.0, |most: f64, value| most.max(value.abs())));
        Weight { values: values.into_iter().map(|value| value * unit).collect(), exponent: exponent_of(unit) }
    }
}

/// Returns the exponent of a power of two.
fn exponent_of(unit: f64) -> i32 {
    (unit.to_bits() >> 52) as i32 - 1023
}

/// Normalisation of rows in f64. Each row has its own exponent, and is multiplied by 2^exponent. In `to`, zeros follow
/// each row, up to a multiple of [`TILE`].
struct Normalise<'a, 'o, E> {
    x: Rows<'a, E>,
    first: usize,
    call: &'a RmsNormLinear<'a, E>,
    weight: &'a Weight,
    to: &'o mut [f64],
    exponents: &'o mut [i32],
}

impl<E: Element> Work for Normalise<'_, '_, E> {
    fn rows(&self) -> usize {
        self.exponents.len()
    }

    fn cols(&self) -> usize {
        self.x.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (to_a, to_b) = self.to.split_at_mut(at * self.x.cols().next_multiple_of(TILE));
        let (exponents_a, exponents_b) = self.exponents.split_at_mut(at);
        (
            Normalise { to: to_a, exponents: exponents_a, ..self },
            Normalise { first: self.first + at, to: to_b, exponents: exponents_b, ..self },
        )
    }
}

impl<E: Element> Kernel for Normalise<'_, '_, E> {
    type Out = GuardCounts;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> GuardCounts {
        let mut guards = GuardCounts::default();
        let cols = self.x.cols();
        if cols == 0 {
            return guards;
        }
        let Normalise { x, first, call, weight, to, exponents } = self;
        let is_narrow = call.rounded && call.norm.is_narrow::<I, E>(isa);
        let mut rounded = vec![E::ZERO; if call.rounded { cols } else { 0 }];
        let mut lent = lend_scratch();
        let scratch = lent.get();
        for ((i, to), exponent) in to.chunks_exact_mut(cols.next_multiple_of(TILE)).enumerate().zip(exponents) {
            let to = &mut to[..cols];
            let row = x.row(first + i);
            *exponent = if call.rounded {
                rounded.copy_from_slice(row);
                let span = Span::in_place(&mut rounded[..]);
                let row = OneRow { norm: call.norm, is_narrow, row: first + i, span, scratch, guards: &mut guards };
                widened(isa, isa.outline(row), to)
            } else {
                unrounded(isa, &call.norm, weight, row, to, &mut guards)
            };
        }
        guards
    }
}

/// Widens a rounded row to f64, scaled so that products neither overflow nor underflow. Returns the scale's exponent.
#[inline(always)]
fn widened<I: Isa, E: Element>(isa: I, row: &[E], to: &mut [f64]) -> i32 {
    let unit = if E::IS_F64 { unit_for(largest(isa, row, 0.0)) } else { 1.0 };
    Span::in_place(to).reading(row).map(
        isa,
        #[inline(always)]
        |_, n: I::F64| n * isa.f64(unit),
    );
    exponent_of(unit)
}

#[inline(always)]
fn unrounded<I: Isa, E: Element>(
    isa: I,
    norm: &RmsNorm<'_>,
    weight: &Weight,
    row: &[E],
    to: &mut [f64],
    guards: &mut GuardCounts,
) -> i32 {
    let moments = isa.outline(OfRow { x: row, eps: norm.eps, centred: false });
    moments.count(&mut guards.counts);
    let before = norm.rounding == Rounding::BeforeWeight;
    Span::in_place(to).reading(row).map_with(
        isa,
        [&weight.values[..]],
        #[inline(always)]
        |_, v: I::F64, [weight]| {
            let n = moments.normalise::<I, E, false>(isa, v);
            let n = if before { E::round_wide(isa, n) } else { n };
            n * isa.load_f64(weight)
        },
    );
    weight.exponent
}
