//! Fixed-point sums, as defined in [`super::sum`]. f32 numbers from 0 to 1 are rounded to multiples of a unit and added
//! as integers.
//!
//! This module also computes a sampler's masses. A mass is the sum of one or more weights, each rounded to a multiple
//! of a unit. In rows of up to 262,144 weights, the unit is 2^-45, as in the fixed-point sum. In longer rows, the unit
//! is 2^-42, so that masses fit in 64 bits.

use crate::simd::{BLOCK, Float, Isa, Kernel, Storage, in_default, padded};

/// Maximum length of a row whose fixed-point sum fits in 64 bits.
const FINE_TERMS: usize = 1 << 18;
/// Number of fraction bits of the fixed-point sum, for a row longer than [`FINE_TERMS`]. The unit of the sum is 2^-48.
pub(crate) const LONG_BITS: u32 = 48;

/// Computes the fixed-point sum of the terms, directly from its definition. The unit of the result is 2^-45 for up to
/// 262,144 terms, and 2^-48 for more.
///
/// Terms should be at most 1. If larger terms make the sum overflow, the result is `u128::MAX`. A negative or NaN term
/// counts as 0.
///
/// ```
/// use evenkeel::math::sum::fixed_point_sum;
/// assert_eq!(fixed_point_sum(&[1.0, 0.5]), 3 << 44);
/// ```
pub fn fixed_point_sum(terms: &[f32]) -> u128 {
    let scale = (1u64 << sum_bits(terms.len())) as f64;
    let units = |e: &f32| (f64::from(*e) * scale).round_ties_even() as u128;
    in_default(|| terms.iter().map(units).fold(0, u128::saturating_add))
}

/// Returns how many fraction bits the fixed-point sum has, for a row of `row_len` terms.
#[inline(always)]
pub(crate) fn sum_bits(row_len: usize) -> u32 {
    if is_long(row_len) { LONG_BITS } else { 45 }
}

/// Returns whether the fixed-point sum of a row of `row_len` terms may need more than 64 bits.
#[inline(always)]
pub(crate) fn is_long(row_len: usize) -> bool {
    row_len > FINE_TERMS
}

/// Computes the fixed-point sum of `terms`, which are part of a row of `row_len` terms.
#[inline(always)]
pub(crate) fn sum_exps<I: Isa, S: Storage>(isa: I, terms: &[S], row_len: usize) -> u128 {
    if is_long(row_len) { isa.outline(Long(terms)) } else { sum_q(isa, terms, row_len).into() }
}

/// Accumulator for the fixed-point sum of a row or of part of a row. The whole row has `row_len` terms.
#[derive(Clone, Copy)]
pub(crate) struct RowSum {
    row_len: usize,
    short: u64,
    long: u128,
}

impl RowSum {
    #[inline(always)]
    pub(crate) fn new(row_len: usize) -> Self {
        RowSum { row_len, short: 0, long: 0 }
    }

    #[inline(always)]
    pub(crate) fn add<I: Isa, S: Storage>(&mut self, isa: I, terms: &[S]) {
        if is_long(self.row_len) {
            self.long += isa.outline(Long(terms));
        } else {
            self.short = self.short.wrapping_add(sum_q(isa, terms, self.row_len));
        }
    }

    /// Returns the sum of all added terms, in units.
    #[inline(always)]
    pub(crate) fn units(self) -> u128 {
        self.long + u128::from(self.short)
    }
}

/// Accumulator like [`RowSum`], for terms that stay in memory. For a short row, [`KeptSum::add`] updates the sum. For a
/// long row, `add` does nothing, and the row is summed at the end, from memory. A call for long rows in `add` would
/// make the code for short rows spill registers.
#[derive(Clone, Copy)]
pub(crate) struct KeptSum {
    row_len: usize,
    short: u64,
}

impl KeptSum {
    #[inline(always)]
    pub(crate) fn new(row_len: usize) -> Self {
        KeptSum { row_len, short: 0 }
    }

    #[inline(always)]
    pub(crate) fn add<I: Isa, S: Storage>(&mut self, isa: I, terms: &[S]) {
        if !is_long(self.row_len) {
            self.short = self.short.wrapping_add(sum_q(isa, terms, 0));
        }
    }

    /// Returns the sum of all added terms, in units. `terms` must hold all added terms and no others.
    #[inline(always)]
    pub(crate) fn units<I: Isa, S: Storage>(self, isa: I, terms: &[S]) -> u128 {
        if is_long(self.row_len) { isa.outline(Long(terms)) } else { self.short.into() }
    }
}

/// Converts the fixed-point sum of a row of `row_len` terms to f64, rounded once.
#[inline(always)]
pub(crate) fn units_to_f64(sum: u128, row_len: usize) -> f64 {
    if is_long(row_len) { long_to_f64(sum) } else { sum as u64 as f64 / (1u64 << 45) as f64 }
}

/// Converts the sum of a long row. A separate function keeps 128-bit conversions out of the code for shorter rows.
#[cold]
#[inline(never)]
fn long_to_f64(sum: u128) -> f64 {
    sum as f64 / (1u64 << LONG_BITS) as f64
}

/// Kernel that sums part of a long row.
struct Long<'a, S>(&'a [S]);

impl<S: Storage> Kernel for Long<'_, S> {
    type Out = u128;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u128 {
        /// Number of terms summed between two reductions, so that a lane holds less than 2^56 units. The integers of
        /// the lanes are read as the bits of f64. This keeps the bits, because no integer below 2^56 has the bits of a
        /// NaN.
        const RUN: usize = 256 * BLOCK;
        let mut total = 0u128;
        for run in self.0.chunks(RUN) {
            let (blocks, tail) = run.as_chunks::<BLOCK>();
            // Two chains hide the latency of the additions.
            let mut sums = [long_units(isa, &padded(tail, S::FILLER)), isa.i64(0)];
            for block in blocks {
                sums = [sums[1] + long_units(isa, block), sums[0]];
            }
            let lanes = isa.array_f64(I::F64::from_bits(sums[0] + sums[1]));
            total += lanes.into_iter().map(|units| u128::from(units.to_bits())).sum::<u128>();
        }
        total
    }
}

/// Returns the terms of one block of a long row, in units. The unit is the last place of `OFFSET`. Adding a term to
/// `OFFSET` therefore increases the bit pattern by the number of units in the term.
#[inline(always)]
fn long_units<I: Isa, S: Storage>(isa: I, terms: &[S; BLOCK]) -> I::I64 {
    /// Midpoint of the range from 16 to 32, in which the last place of an f64 is 2^-48.
    const OFFSET: f64 = 24.0;
    (isa.widen(S::load(isa, terms)) + isa.f64(OFFSET)).to_bits() - isa.i64(OFFSET.to_bits() as i64)
}

/// Returns n such that 2^-n is the unit of a sampler's masses, for a row of `terms` weights. In this unit, the mass of
/// the whole row fits in 64 bits.
pub(crate) fn unit_bits(terms: usize) -> u32 {
    if is_long(terms) { 42 } else { 45 }
}

/// Returns the mass of one weight, in units.
#[inline(always)]
pub(crate) fn units(e: f32, row_len: usize) -> u64 {
    /// 2^52. Adding it to a number rounds the number to an integer. This integer is in the low bits of the sum.
    const SHIFTER: f64 = (1u64 << 52) as f64;
    let scale = (1u64 << unit_bits(row_len)) as f64;
    (f64::from(e) * scale + SHIFTER).to_bits() - SHIFTER.to_bits()
}

/// Returns the mass of `terms`, which are weights of a row with `row_len` weights. For rows of up to 262,144 weights,
/// the mass is the fixed-point sum.
///
/// The loop uses f32 and wrapping 32-bit integers. For a weight e, let u be e + 1 rounded to f32. The bit pattern of u,
/// minus the bit pattern of 1, is e rounded to 23 fraction bits. The remainder e + 1 - u may be negative. Let v be the
/// remainder plus `grid(row_len)`, an f32 whose last place is the unit. This addition rounds the remainder to units.
/// The loop sums the bit patterns of all u, and those of all v, as integers. [`units_of`] subtracts the bit patterns of
/// 1 and of `grid(row_len)`, once for each weight.
#[inline(always)]
pub(crate) fn sum_q<I: Isa, S: Storage>(isa: I, terms: &[S], row_len: usize) -> u64 {
    /// Number of terms between two reductions of the lane sums: 256 for each lane. The wrapped sums can be recovered
    /// for up to 511 terms per lane.
    const RUN: usize = 256 * BLOCK;
    let offset = grid(row_len);
    let mut total = 0u64;
    for run in terms.chunks(RUN) {
        let zero = (isa.i32(0), isa.i32(0));
        let (quads, rest) = run.as_chunks::<{ 4 * BLOCK }>();
        let mut sums = [zero; 4];
        for quad in quads {
            let blocks = quad.as_chunks::<BLOCK>().0;
            for i in 0..4 {
                sums[i] = add_q(isa, offset, sums[i], S::load(isa, &blocks[i]));
            }
        }
        let (blocks, tail) = rest.as_chunks::<BLOCK>();
        for block in blocks {
            sums[0] = add_q(isa, offset, sums[0], S::load(isa, block));
        }
        if !tail.is_empty() {
            let pad = isa.array_f32(S::load(isa, &padded(tail, tail[0])));
            sums[0] = add_q(isa, offset, sums[0], isa.load_f32(&padded(&pad[..tail.len()], 0.0)));
        }
        let high = (sums[0].0 + sums[1].0) + (sums[2].0 + sums[3].0);
        let low = (sums[0].1 + sums[1].1) + (sums[2].1 + sums[3].1);
        total = total.wrapping_add(units_of(isa, (high, low), run.len().div_ceil(BLOCK), row_len));
    }
    total
}

/// Returns an f32 whose unit in the last place is the unit of masses. This f32 is 1.5 times a power of two.
#[inline(always)]
pub(crate) fn grid(row_len: usize) -> f32 {
    1.5 / if unit_bits(row_len) == 45 { 1 << 22 } else { 1 << 19 } as f32
}

/// Returns the mass, in units, that [`add_q`] accumulated. `blocks` is the number of accumulated blocks, at most 511.
#[inline(always)]
pub(crate) fn units_of<I: Isa>(isa: I, (high, low): (I::I32, I::I32), blocks: usize, row_len: usize) -> u64 {
    let blocks = blocks as u32;
    let high = isa.array_i32(high - isa.i32(1.0f32.to_bits().wrapping_mul(blocks) as i32));
    let low = isa.array_i32(low - isa.i32(grid(row_len).to_bits().wrapping_mul(blocks) as i32));
    let (mut high_sum, mut low_sum) = (0i64, 0i64);
    for i in 0..BLOCK {
        // A lane may hold 511 * 2^23. This exceeds i32, so the lane is read as u32.
        high_sum += i64::from(high[i] as u32);
        low_sum += i64::from(low[i]);
    }
    ((high_sum << (unit_bits(row_len) - 23)) + low_sum) as u64
}

/// Adds one block to the two sums of each lane. `offset` is the result of [`grid`].
#[inline(always)]
pub(crate) fn add_q<I: Isa>(isa: I, offset: f32, (high, low): (I::I32, I::I32), e: I::F32) -> (I::I32, I::I32) {
    let u = e + isa.f32(1.0);
    let rest = e + (isa.f32(1.0 + offset) - u);
    (high + u.to_bits(), low + rest.to_bits())
}
