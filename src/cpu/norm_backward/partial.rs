//! Gradients of rows that are not all in one place: what parts of a row, cut at multiples of 256, say of what all of it
//! comes to. Each step is that of a whole row, so that the bits are.

use super::{Factors, Norm, NormBackward, Row, Sums};
use crate::cpu::each_row::{OfRow, each_row};
use crate::cpu::moments::Moments;
use crate::cpu::norm_partial::Tiles;
use crate::cpu::scratch::Scratch;
use crate::element::Element;
use crate::error::Result;
use crate::math::sum::sum_of_tiles;
use crate::rows::Rows;
use crate::simd::{Isa, Kernel};

/// The largest product of a row's part, and the largest with its smaller factors multiplied up.
pub type Largest = [f64; 2];

/// The sums of a part's tiles: of h n, and for centred rows of h.
pub type OfTiles = [Vec<f64>; 2];

impl Sums {
    /// Of rows with these largest products, what is known before there are sums.
    pub fn begin([largest, of_up]: Largest, cols: usize) -> Self {
        Sums { factors: Factors::for_largest(largest, || of_up), sums: [0.0; 2], cols }
    }

    /// The same with the sums of all tiles, in order.
    pub fn finish(self, tiles: &OfTiles) -> Self {
        let sums = [sum_of_tiles(&tiles[0]), sum_of_tiles(&tiles[1])];
        Sums { sums, ..self }
    }
}

/// The largest products of each row's part, which are asked for of f64 alone.
pub fn largest_of_each<E: Element>(dy: Rows<'_, E>, norm: Norm<'_>) -> Result<Vec<Largest>> {
    each_row(dy, [0.0; 2], LargestProducts(norm))
}

#[derive(Clone, Copy)]
struct LargestProducts<'a>(Norm<'a>);

impl<E: Element> OfRow<E> for LargestProducts<'_> {
    type Out = Largest;

    fn op(&self) -> &'static str {
        self.0.op()
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, _: usize, dy: &[E], _: &mut Scratch) -> Largest {
        [Factors::NONE, Factors::up()].map(
            #[inline(always)]
            |factors| factors.largest(isa, dy, self.0),
        )
    }
}

/// The tiles of each row's part, whose moments are known, and whose sums are begun.
pub fn tiles_of_each<E: Element>(dy: Rows<'_, E>, part: Part<'_, E>) -> Result<Vec<OfTiles>> {
    each_row(dy, OfTiles::default(), part)
}

/// Some columns of rows.
#[derive(Clone, Copy)]
pub struct Part<'a, E> {
    /// With the weights of these columns.
    pub norm: Norm<'a>,
    pub x: Rows<'a, E>,
    pub moments: &'a [Moments],
    pub sums: &'a [Sums],
}

impl<'a, E> Part<'a, E> {
    /// The kernel that stores them, once the sums are those of whole rows.
    pub fn kernel(self) -> NormBackward<'a, E> {
        let Part { norm, x, moments, sums } = self;
        NormBackward { norm, x, moments: Some(moments), sums: Some(sums) }
    }
}

impl<E: Element> OfRow<E> for Part<'_, E> {
    type Out = OfTiles;

    fn op(&self) -> &'static str {
        self.norm.op()
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, dy: &[E], _: &mut Scratch) -> OfTiles {
        let Part { norm, x, moments, sums } = *self;
        isa.outline(RowTiles { norm, x: x.row(row), moments: moments[row], factors: sums[row].factors, dy })
    }
}

/// A row's part, as a function of its own.
struct RowTiles<'a, E> {
    norm: Norm<'a>,
    x: &'a [E],
    moments: Moments,
    factors: Factors,
    dy: &'a [E],
}

impl<E: Element> Kernel for RowTiles<'_, E> {
    type Out = OfTiles;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> OfTiles {
        let RowTiles { norm, x, moments, factors, dy } = self;
        let sums = Row { isa, norm, x, moments, factors }.sums::<Tiles>(dy);
        sums.map(|tiles| tiles.into_iter().flatten().flatten().collect())
    }
}
