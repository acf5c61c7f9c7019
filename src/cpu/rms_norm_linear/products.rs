//! Products of normalised rows with rows of the matrix.

use super::{RmsNormLinear, exponent_of};
use crate::cpu::moments::{largest, power_of_two, unit_for};
use crate::element::Element;
use crate::math::sum::{SUM_LANES, TILE, dots_o};
use crate::simd::{BLOCK, Float, Isa, Kernel, Work, load};

/// Smallest number of normalised rows for which it pays to transpose the rows of the matrix first.
const ROWS_FOR_TRANSPOSING: usize = 8;
/// The same threshold for f64. It is higher, because rows of f64 are transposed element by element.
const ROWS_FOR_TRANSPOSING_F64: usize = 16;

/// Multiplication of normalised rows with some rows of the matrix.
pub struct Products<'a, 'o, E> {
    /// Normalised rows in f64. Zeros follow each row, up to a multiple of [`TILE`].
    pub rows: &'a [f64],
    /// For each normalised row, the exponent of the power of two that the row was multiplied by.
    pub exponents: &'a [i32],
    pub call: &'a RmsNormLinear<'a, E>,
    /// Index of the first matrix row to multiply.
    pub first: usize,
    /// Destination of the products. The products of one row of the matrix are adjacent.
    pub to: &'o mut [E],
}

impl<E: Element> Work for Products<'_, '_, E> {
    fn rows(&self) -> usize {
        self.to.len() / self.exponents.len()
    }

    fn cols(&self) -> usize {
        self.rows.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = self.to.split_at_mut(at * self.exponents.len());
        (Products { to: a, ..self }, Products { first: self.first + at, to: b, ..self })
    }
}

impl<E: Element> Kernel for Products<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let least = if E::IS_F64 { ROWS_FOR_TRANSPOSING_F64 } else { ROWS_FOR_TRANSPOSING };
        // For few normalised rows, as many products are computed at a time as fit in registers with their operands.
        // AVX-512 has twice as many registers as AVX2, each twice as wide.
        if self.exponents.len() >= least {
            self.transposed(isa);
        } else if I::REGISTERS >= 32 {
            self.few::<I, 2, 4, 8>(isa);
        } else {
            self.few::<I, 1, 2, 2>(isa);
        }
    }
}

impl<E: Element> Products<'_, '_, E> {
    /// Multiplies all normalised rows with sixteen rows of the matrix at a time. A tile of these sixteen rows is
    /// transposed, so that each lane of a block belongs to one row of the matrix. All additions are then between the
    /// same lanes of two blocks.
    #[inline(always)]
    fn transposed<I: Isa>(&mut self, isa: I) {
        let count = self.exponents.len();
        let tiles = self.rows.len() / count / TILE;
        let lanes = tiles.min(SUM_LANES);
        let mut transposed = vec![[0.0; BLOCK]; TILE];
        let mut sums = vec![[0.0; BLOCK]; count * lanes];
        for of in (0..self.rows()).step_by(BLOCK) {
            let beside = Beside::<E, BLOCK>::new(isa, self.call, self.first + of, BLOCK.min(self.rows() - of));
            for tile in 0..tiles {
                beside.transpose(isa, tile, &mut transposed);
                isa.outline(Tile {
                    rows: self.rows,
                    tiles,
                    tile,
                    matrix: &transposed.as_chunks().0[0],
                    sums: &mut sums,
                });
            }
            for row in 0..count {
                let results =
                    if lanes == 0 { [0.0; BLOCK] } else { isa.outline(Fold(&mut sums[row * lanes..][..lanes])) };
                self.store(of, row, &beside, &results);
            }
        }
    }

    /// Multiplies `R` normalised rows with `C` rows of the matrix at a time. `N` is `R * C`.
    #[inline(always)]
    fn few<I: Isa, const R: usize, const C: usize, const N: usize>(&mut self, isa: I) {
        let count = self.exponents.len();
        let whole = count - count % R;
        for of in (0..self.rows()).step_by(C) {
            let beside = Beside::<E, C>::new(isa, self.call, self.first + of, C.min(self.rows() - of));
            for first in (0..whole).step_by(R) {
                self.multiply::<I, R, C, N>(isa, of, first, &beside);
            }
            for first in whole..count {
                self.multiply::<I, 1, C, C>(isa, of, first, &beside);
            }
        }
    }

    #[inline(always)]
    fn multiply<I: Isa, const R: usize, const C: usize, const N: usize>(
        &mut self,
        isa: I,
        of: usize,
        first: usize,
        beside: &Beside<'_, E, C>,
    ) {
        let (cols, padded) = (self.call.matrix.cols(), self.rows.len() / self.exponents.len());
        let mut rows = [&[] as &[f64]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &self.rows[(first + r) * padded..][..cols];
        }
        let sums = dots_o::<I, E, R, C, N>(isa, rows, beside.filled());
        for (r, sums) in sums.as_chunks().0.iter().enumerate() {
            self.store(of, first + r, beside, sums);
        }
    }

    /// Stores the results for one normalised row and the matrix rows of `beside`. `sums` has the sum of the products
    /// for each matrix row. `of` is the index of the first matrix row, counted from [`Products::first`].
    #[inline(always)]
    fn store<const C: usize>(&mut self, of: usize, row: usize, beside: &Beside<'_, E, C>, sums: &[f64; C]) {
        let count = self.exponents.len();
        for (c, &sum) in sums.iter().enumerate().take(beside.count) {
            let y = result(sum, self.exponents[row] + beside.exponents[c], beside.biases[c]);
            self.to[(of + c) * count + row] = E::from_wide(y);
        }
    }
}

/// Up to `C` rows of the matrix that are read together. Each row is multiplied by its own power of two.
struct Beside<'a, E, const C: usize> {
    count: usize,
    /// The rows. Entries from index `count` on are empty.
    rows: [&'a [E]; C],
    /// Copies of f64 rows, multiplied by a power of two because their products could overflow or underflow.
    scaled: [Vec<E>; C],
    exponents: [i32; C],
    biases: [f64; C],
}

impl<'a, E: Element, const C: usize> Beside<'a, E, C> {
    #[inline(always)]
    fn new<I: Isa>(isa: I, call: &RmsNormLinear<'a, E>, first: usize, count: usize) -> Self {
        let mut beside =
            Beside { count, rows: [&[]; C], scaled: [const { Vec::new() }; C], exponents: [0; C], biases: [0.0; C] };
        for c in 0..count {
            let row = call.matrix.row(first + c);
            beside.rows[c] = row;
            beside.biases[c] = call.bias.map_or(0.0, |bias| bias.get(first + c).unwrap_or(f64::NAN));
            if E::IS_F64 {
                let unit = unit_for(largest(isa, row, 0.0));
                if unit != 1.0 {
                    beside.scaled[c] = row.iter().map(|value| E::from_wide(value.widen() * unit)).collect();
                    beside.exponents[c] = exponent_of(unit);
                }
            }
        }
        beside
    }

    /// Returns row `c`, multiplied by its power of two.
    #[inline(always)]
    fn row(&self, c: usize) -> &[E] {
        if self.exponents[c] == 0 { self.rows[c] } else { &self.scaled[c] }
    }

    /// Returns `C` rows. The first row takes the place of each missing row.
    #[inline(always)]
    fn filled(&self) -> [&[E]; C] {
        let mut rows = [&[] as &[E]; C];
        for (c, row) in rows.iter_mut().enumerate() {
            *row = self.row(if c < self.count { c } else { 0 });
        }
        rows
    }

    /// Writes the columns of a tile. Column `i` becomes block `i`, with zeros for missing rows and columns.
    #[inline(always)]
    fn transpose<I: Isa>(&self, isa: I, tile: usize, to: &mut [[f64; BLOCK]]) {
        for (i, to) in to.chunks_exact_mut(BLOCK).enumerate() {
            let block = tile * (TILE / BLOCK) + i;
            if E::IS_F64 {
                for (j, to) in to.iter_mut().enumerate() {
                    for (c, to) in to.iter_mut().enumerate().take(C) {
                        *to = self.row(c).get(block * BLOCK + j).map_or(0.0, |value| value.widen());
                    }
                }
            } else {
                let mut rows = [isa.f32(0.0); BLOCK];
                for (to, row) in rows.iter_mut().zip(self.rows) {
                    if block * BLOCK < row.len() {
                        *to = load(isa, row, block, E::ZERO);
                    }
                }
                let columns = isa.transpose(rows);
                for j in 0..BLOCK {
                    to[j] = isa.array_f64(isa.widen(columns[j]));
                }
            }
        }
    }
}

/// Kernel that sums the products of one tile, for all normalised rows. All storage types share this code.
struct Tile<'a> {
    rows: &'a [f64],
    /// Number of tiles in a row.
    tiles: usize,
    tile: usize,
    /// The tile of sixteen matrix rows, transposed: one block for each column.
    matrix: &'a [[f64; BLOCK]; TILE],
    /// Lanes of the sum over tiles, for each normalised row.
    sums: &'a mut [[f64; BLOCK]],
}

impl Kernel for Tile<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        // The accumulators of this many rows fit in registers. Independent accumulators hide the latency of additions.
        if I::REGISTERS >= 32 { self.all::<I, 4>(isa) } else { self.all::<I, 2>(isa) }
    }
}

impl Tile<'_> {
    #[inline(always)]
    fn all<I: Isa, const R: usize>(&mut self, isa: I) {
        let rows = self.rows.len() / (self.tiles * TILE);
        // If fewer than `R` rows are left, a few earlier rows are computed again. So the function `some` is compiled
        // for only one value of `R`.
        let mut done = 0;
        while done < rows {
            let first = done.min(rows.saturating_sub(R));
            self.some::<I, R>(isa, first, done);
            done = first + R;
        }
    }

    /// Computes the tile's sums for `R` rows, which begin with row `first`, and adds them to lanes of [`Tile::sums`].
    /// The sums of rows before `new` are not added, because an earlier call has added them.
    #[inline(always)]
    fn some<I: Isa, const R: usize>(&mut self, isa: I, first: usize, new: usize) {
        let mut rows = [&[0.0; TILE]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &self.rows[((first + r) * self.tiles + self.tile) * TILE..].as_chunks().0[0];
        }
        // Entry `level` holds the sum of 4 * 2^level lanes, until the sum of the next 4 * 2^level lanes is added to it.
        let mut waiting = [[isa.f64(0.0); R]; (SUM_LANES / 4).ilog2() as usize];
        for four in 0..SUM_LANES / 4 {
            // Four lanes are added in registers, because stores of 64 bytes are slow.
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| 4 * four + i);
            let two = added(lane(isa, rows, self.matrix, a), lane(isa, rows, self.matrix, b));
            let mut sums = added(two, added(lane(isa, rows, self.matrix, c), lane(isa, rows, self.matrix, d)));
            let mut level = 0;
            while four >> level & 1 == 1 {
                sums = added(waiting[level], sums);
                level += 1;
            }
            if level < waiting.len() {
                waiting[level] = sums;
                continue;
            }
            let lanes = self.tiles.min(SUM_LANES);
            for r in (0..R).filter(|r| first + r >= new) {
                let to = &mut self.sums[(first + r) * lanes + self.tile % SUM_LANES];
                let sum = if self.tile < SUM_LANES { sums[r] } else { isa.load_f64(to) + sums[r] };
                *to = isa.array_f64(sum);
            }
        }
    }
}

/// Computes one lane of a tile's sum. Returns a block for each normalised row, with one number for each of sixteen
/// matrix rows.
#[inline(always)]
fn lane<I: Isa, const R: usize>(
    isa: I,
    rows: [&[f64; TILE]; R],
    matrix: &[[f64; BLOCK]; TILE],
    lane: usize,
) -> [I::F64; R] {
    let mut sums = [isa.f64(0.0); R];
    for i in (lane..TILE).step_by(SUM_LANES) {
        let column = isa.load_f64(&matrix[i]);
        for r in 0..R {
            sums[r] = isa.f64(rows[r][i]).mul_add(column, sums[r]);
        }
    }
    sums
}

#[inline(always)]
fn added<F: Float, const R: usize>(a: [F; R], b: [F; R]) -> [F; R] {
    let mut sums = a;
    for r in 0..R {
        sums[r] = a[r] + b[r];
    }
    sums
}

/// Adds the lanes of a sum over tiles in pairs, until one is left.
struct Fold<'a>(&'a mut [[f64; BLOCK]]);

impl Kernel for Fold<'_> {
    type Out = [f64; BLOCK];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [f64; BLOCK] {
        let lanes = self.0;
        let mut width = lanes.len();
        while width > 1 {
            for j in 0..width / 2 {
                lanes[j] = isa.array_f64(isa.load_f64(&lanes[2 * j]) + isa.load_f64(&lanes[2 * j + 1]));
            }
            if !width.is_multiple_of(2) {
                lanes[width / 2] = lanes[width - 1];
            }
            width = width.div_ceil(2);
        }
        lanes[0]
    }
}

/// Returns the sum divided by 2^exponent, plus the bias.
#[inline(always)]
fn result(sum: f64, exponent: i32, bias: f64) -> f64 {
    if exponent == 0 {
        return sum + bias;
    }
    // `sum` / 2^exponent may exceed the range of f64 even if the result, which includes the bias, does not. So a
    // quarter of the quotient and a quarter of the bias are added, and the total is multiplied by 4. `sum` is scaled by
    // two powers of two in turn, because their product may not be a normal number.
    let back = -exponent - 2;
    4.0 * (sum * power_of_two(back / 2) * power_of_two(back - back / 2) + 0.25 * bias)
}
