//! Norm gradients of rows that are sharded at multiples of 256 columns. The partial results of all shards combine into
//! the results of complete rows. Each step is the same as for a complete row, so the results have the same bits.

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

/// Largest magnitude of dy * weight in a row's shard: unscaled, and scaled by [`Factors::up`].
pub type Largest = [f64; 2];

/// Sum of `h * n` for each tile of a shard, where h = dy * weight and n is the normalised row. For centred rows, also
/// the sum of h.
pub type OfTiles = [Vec<f64>; 2];

impl Sums {
    /// Returns the initial state of a row: sums of 0, and the factors for these largest products.
    pub fn begin([largest, of_up]: Largest, cols: usize) -> Self {
        Sums { factors: Factors::for_largest(largest, || of_up), sums: [0.0; 2], cols }
    }

    /// Returns the sums over the complete row, from the sums of all tiles in order.
    pub fn finish(self, tiles: &OfTiles) -> Self {
        let sums = [sum_of_tiles(&tiles[0]), sum_of_tiles(&tiles[1])];
        Sums { sums, ..self }
    }
}

/// Returns the largest products of each row's shard. Only f64 rows need them.
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

/// Returns the tile sums of each row's shard. `part` must have moments, and sums that [`Sums::begin`] returned.
pub fn tiles_of_each<E: Element>(dy: Rows<'_, E>, part: ShardInput<'_, E>) -> Result<Vec<OfTiles>> {
    each_row(dy, OfTiles::default(), part)
}

/// Shard of rows: a range of their columns.
#[derive(Clone, Copy)]
pub struct ShardInput<'a, E> {
    /// Norm with the weights of these columns.
    pub norm: Norm<'a>,
    pub x: Rows<'a, E>,
    pub moments: &'a [Moments],
    pub sums: &'a [Sums],
}

impl<'a, E> ShardInput<'a, E> {
    /// Returns the kernel that writes the gradients. The sums must cover complete rows.
    pub fn kernel(self) -> NormBackward<'a, E> {
        let ShardInput { norm, x, moments, sums } = self;
        NormBackward { norm, x, moments: Some(moments), sums: Some(sums) }
    }
}

impl<E: Element> OfRow<E> for ShardInput<'_, E> {
    type Out = OfTiles;

    fn op(&self) -> &'static str {
        self.norm.op()
    }

    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, row: usize, dy: &[E], _: &mut Scratch) -> OfTiles {
        let ShardInput { norm, x, moments, sums } = *self;
        isa.outline(RowTiles { norm, x: x.row(row), moments: moments[row], factors: sums[row].factors, dy })
    }
}

/// Kernel that computes the tile sums of one row's shard. It is compiled as a separate function.
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
