//! Moments of several rows of at most one tile, computed together. The rows' partial sums are folded together. Each row
//! is then one lane of the vectors that hold the moments.

use super::lanes::RowIo;
use super::moments::{Moments, ONE_PASS, add_square};
use crate::element::Element;
use crate::math::bins::power_of_two;
use crate::math::sum::{TILE, fold_tiles, tile_o};
use crate::simd::{ArrayVec, BLOCK, Float, Isa, Select, map_array};
use std::ops::Range;

/// Maximum number of rows in a group. The nearest cache holds this many rows, their results and the next group.
pub const MOST: usize = 8;

/// Returns whether the moments of rows of this length are computed together. Rows of f64 are scaled one by one.
pub fn are_short<E: Element>(len: usize) -> bool {
    !E::IS_F64 && len <= TILE
}

/// [`Moments`] of a group of rows.
pub struct GroupMoments<I: Isa> {
    pub mean: I::F64,
    pub mean_low: I::F64,
    pub scale: I::F64,
    shift: I::F64,
    square: I::F64,
    /// Lower bound of the rows' smallest nonzero magnitudes, for rows of f32.
    pub smallest: f64,
    /// Rows whose moments are valid. The moments of other rows must be computed one by one.
    pub valid: I::M64,
}

impl<I: Isa> GroupMoments<I> {
    /// Computes [`Moments::rms`] of rows of `io`.
    #[inline(always)]
    pub fn rms<E: Element>(isa: I, io: &mut RowIo<'_, '_, E>, rows: Range<usize>, eps: f64) -> Self {
        let mut smallest = [isa.f32(f32::INFINITY); 2];
        let [sum] = sums(
            isa,
            io,
            rows,
            #[inline(always)]
            |i, block: &[E; BLOCK], [sum]| {
                if E::IS_F32 {
                    // A zero becomes NaN, which the minimum ignores. Other numbers become the next smaller f32.
                    let below = I::F32::from_bits(E::load(isa, block).abs().to_bits() - isa.i32(1));
                    smallest[i % 2] = below.min(smallest[i % 2]);
                }
                [add_square::<I, E>(sum, E::load_wide(isa, block))]
            },
        );
        let (zero, square) = (isa.f64(0.0), sum / isa.f64(io.len() as f64));
        GroupMoments {
            mean: zero,
            mean_low: zero,
            scale: scale(isa, square, eps),
            shift: isa.f64(-0.0),
            square,
            smallest: f64::from(isa.min_f32(smallest[0].min(smallest[1]))),
            valid: square.lt(isa.f64(f64::INFINITY)),
        }
    }

    /// Computes [`Moments::layer`] of rows of `io`, for rows that need one pass.
    #[inline(always)]
    pub fn layer<E: Element>(isa: I, io: &mut RowIo<'_, '_, E>, rows: Range<usize>, eps: f64) -> Self {
        let [total, squares] = sums(
            isa,
            io,
            rows,
            #[inline(always)]
            |_, block: &[E; BLOCK], [total, squares]| {
                let v = E::load_wide(isa, block);
                [total + v, v.mul_add(v, squares)]
            },
        );
        let n = isa.f64(io.len() as f64);
        let mean = total / n;
        let mean_low = (isa.f64(-0.0) - mean).mul_add(n, total) / n;
        let square = (squares - total * mean) / n;
        let scale = scale(isa, square, eps);
        let valid = (mean * mean).le(isa.f64(ONE_PASS) * square) & square.lt(isa.f64(f64::INFINITY));
        GroupMoments { mean, mean_low, scale, shift: isa.f64(-0.0) - mean_low * scale, square, smallest: 0.0, valid }
    }

    /// Returns the rows that are finite and whose results, before they are weighted, are far from the limits of f32;
    /// see [`Moments::has_room`].
    #[inline(always)]
    pub fn have_room(&self, isa: I) -> I::M64 {
        let (least, most) = (isa.f64(power_of_two(-60)), isa.f64(power_of_two(60)));
        self.square.lt(isa.f64(power_of_two(120))) & least.le(self.scale) & self.scale.lt(most)
    }

    /// Returns the moments of each row.
    #[inline(always)]
    pub fn each(&self, isa: I) -> [Moments; MOST] {
        let of_rows = arrays(isa, [self.mean, self.mean_low, self.scale, self.shift, self.square]);
        let mut moments = [Moments::default(); MOST];
        for i in 0..MOST {
            let mut of_row = [0.0; 5];
            for j in 0..5 {
                of_row[j] = of_rows[j][i];
            }
            moments[i] = Moments::of_group(of_row);
        }
        moments
    }
}

/// Computes `N` tiled sums of each row. The lanes of a returned block are the rows. `add` is as in
/// [`sums_o`](crate::math::sum::sums_o).
#[inline(always)]
fn sums<I: Isa, E: Element, const N: usize>(
    isa: I,
    io: &mut RowIo<'_, '_, E>,
    rows: Range<usize>,
    mut add: impl FnMut(usize, &[E; BLOCK], [I::F64; N]) -> [I::F64; N],
) -> [I::F64; N] {
    let mut tiles = ArrayVec::<_, MOST>::new();
    for row in rows {
        let span = io.span(row);
        let [next, _] = span.next_in_passes(MOST);
        let tile = tile_o(
            isa,
            span.source(),
            E::ZERO,
            #[inline(always)]
            |i, block, sums| {
                next.source(i);
                add(i, block, sums)
            },
        );
        tiles.push(arrays(isa, tile));
    }
    let sums = fold_tiles(isa, tiles.as_mut_slice());
    let mut blocks = [isa.f64(0.0); N];
    for i in 0..N {
        blocks[i] = isa.load_f64(&sums[i]);
    }
    blocks
}

#[inline(always)]
fn arrays<I: Isa, const N: usize>(isa: I, blocks: [I::F64; N]) -> [[f64; BLOCK]; N] {
    map_array(
        blocks,
        #[inline(always)]
        |block| isa.array_f64(block),
    )
}

/// Returns 1 / sqrt(square + eps) of each lane, or 0 if the square root is 0.
#[inline(always)]
fn scale<I: Isa>(isa: I, square: I::F64, eps: f64) -> I::F64 {
    let root = (square + isa.f64(eps)).sqrt();
    I::F64::select(root.eq(isa.f64(0.0)), isa.f64(0.0), isa.f64(1.0) / root)
}

/// Returns numbers as sums of two f32, the larger first.
#[inline(always)]
pub fn pair<I: Isa>(isa: I, v: I::F64) -> [I::F32; 2] {
    let high = isa.narrow(v);
    [high, isa.narrow(v - isa.widen(high))]
}
