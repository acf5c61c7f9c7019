//! Rule Q of [`super::sum`]: sums of f32 from 0 to 1 in fixed point, which are exact.
//!
//! A sampler's masses are such sums too. Up to 262,144 weights they are by rule Q; beyond, their units are 2^-42, so that a
//! mass fits in 64 bits at any length.

use crate::simd::{Float, Isa, Kernel, LANES, Storage, in_default, padded};

/// The longest row whose sum by rule Q fits in 64 bits.
const FINE_TERMS: usize = 1 << 18;
/// The unit of rule Q in longer rows is 2 to the minus this.
pub(crate) const LONG_BITS: u32 = 48;

/// Rule Q, by its definition: the sum in units of 2^-45, or of 2^-48 for more than 262,144 terms.
///
/// A sum of terms above 1 stops at `u128::MAX`. A negative or NaN term counts as 0.
///
/// ```
/// use evenkeel::math::sum::rule_q;
/// assert_eq!(rule_q(&[1.0, 0.5]), 3 << 44);
/// ```
pub fn rule_q(terms: &[f32]) -> u128 {
    let scale = (1u64 << sum_bits(terms.len())) as f64;
    let units = |e: &f32| (f64::from(*e) * scale).round_ties_even() as u128;
    in_default(|| terms.iter().map(units).fold(0, u128::saturating_add))
}

/// The unit of rule Q for a row of this length is 2 to the minus this.
#[inline(always)]
pub(crate) fn sum_bits(row_len: usize) -> u32 {
    if is_long(row_len) { LONG_BITS } else { 45 }
}

/// Whether a sum by rule Q of a row of this length may need more than 64 bits.
#[inline(always)]
pub(crate) fn is_long(row_len: usize) -> bool {
    row_len > FINE_TERMS
}

/// Rule Q over part of a row of `row_len` terms.
#[inline(always)]
pub(crate) fn sum_exps<I: Isa, S: Storage>(isa: I, terms: &[S], row_len: usize) -> u128 {
    if is_long(row_len) { isa.outline(Long(terms)) } else { sum_q(isa, terms, row_len).into() }
}

/// Rule Q over a row of this length, or part of it, that is made in runs.
#[derive(Clone, Copy)]
pub(crate) struct RowSum {
    row_len: usize,
    /// The sum of a short row.
    short: u64,
    /// The sum of a long row.
    long: u128,
}

impl RowSum {
    #[inline(always)]
    pub(crate) fn new(row_len: usize) -> Self {
        RowSum { row_len, short: 0, long: 0 }
    }

    /// Adds a run of terms.
    #[inline(always)]
    pub(crate) fn add<I: Isa, S: Storage>(&mut self, isa: I, terms: &[S]) {
        if is_long(self.row_len) {
            self.long += isa.outline(Long(terms));
        } else {
            self.short = self.short.wrapping_add(sum_q(isa, terms, self.row_len));
        }
    }

    /// The sum of all runs.
    #[inline(always)]
    pub(crate) fn units(self) -> u128 {
        self.long + u128::from(self.short)
    }
}

/// Rule Q over a row of this length, or part of it, that is made in runs and kept: a long row is read again, since a call
/// among the runs would cost shorter ones their registers.
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

    /// Adds a run of terms.
    #[inline(always)]
    pub(crate) fn add<I: Isa, S: Storage>(&mut self, isa: I, terms: &[S]) {
        if !is_long(self.row_len) {
            self.short = self.short.wrapping_add(sum_q(isa, terms, 0));
        }
    }

    /// The sum of all runs, which are these terms.
    #[inline(always)]
    pub(crate) fn units<I: Isa, S: Storage>(self, isa: I, terms: &[S]) -> u128 {
        if is_long(self.row_len) { isa.outline(Long(terms)) } else { self.short.into() }
    }
}

/// A sum by rule Q of a row of this length, rounded once.
#[inline(always)]
pub(crate) fn units_to_f64(sum: u128, row_len: usize) -> f64 {
    if is_long(row_len) { long_to_f64(sum) } else { sum as u64 as f64 / (1u64 << 45) as f64 }
}

/// The same of a long row: a function of its own, so that no other row waits for a conversion from 128 bits.
#[cold]
#[inline(never)]
fn long_to_f64(sum: u128) -> f64 {
    sum as f64 / (1u64 << LONG_BITS) as f64
}

/// Part of a long row.
struct Long<'a, S>(&'a [S]);

impl<S: Storage> Kernel for Long<'_, S> {
    type Out = u128;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u128 {
        /// The units of so many terms of a lane are below 2^56. As the bits of an f64 that is a number and no NaN.
        const RUN: usize = 256 * LANES;
        let mut total = 0u128;
        for run in self.0.chunks(RUN) {
            let (blocks, tail) = run.as_chunks::<LANES>();
            // Two chains, so that the latency of an addition does not decide the speed.
            let mut sums = [long_units(isa, &padded(tail, S::NAUGHT)), isa.i64(0)];
            for block in blocks {
                sums = [sums[1] + long_units(isa, block), sums[0]];
            }
            let lanes = isa.array_f64(I::F64::from_bits(sums[0] + sums[1]));
            total += lanes.into_iter().map(|units| u128::from(units.to_bits())).sum::<u128>();
        }
        total
    }
}

/// The units of terms of a long row: what a number whose last place is the unit gains by them.
#[inline(always)]
fn long_units<I: Isa, S: Storage>(isa: I, terms: &[S; LANES]) -> I::I64 {
    /// Halfway from 16 to 32, where the last place is 2^-48.
    const OFFSET: f64 = 24.0;
    (isa.widen(S::load(isa, terms)) + isa.f64(OFFSET)).to_bits() - isa.i64(OFFSET.to_bits() as i64)
}

/// The unit of a sampler's masses is 2 to the minus this: 64 bits hold their sum at any length.
pub(crate) fn unit_bits(terms: usize) -> u32 {
    if is_long(terms) { 42 } else { 45 }
}

/// The mass of one weight.
#[inline(always)]
pub(crate) fn units(e: f32, row_len: usize) -> u64 {
    /// Adding it rounds to an integer, which is then in the low bits.
    const SHIFTER: f64 = (1u64 << 52) as f64;
    let scale = (1u64 << unit_bits(row_len)) as f64;
    (f64::from(e) * scale + SHIFTER).to_bits() - SHIFTER.to_bits()
}

/// The mass of part of a row of `row_len` weights; of rows that are not long, rule Q.
///
/// In f32 and wrapping 32-bit integers: u = e + 1 has e's first 23 bits in its last ones, of 1 too, since the patterns
/// go on from one exponent to the next; what it left out, added to a number whose last place is the unit, shows the rest.
/// Both are summed as bit patterns, the patterns of 1 and of that number taken off at the end.
#[inline(always)]
pub(crate) fn sum_q<I: Isa, S: Storage>(isa: I, terms: &[S], row_len: usize) -> u64 {
    /// Terms a lane takes before its sums could wrap beyond recovery; 511 would still do.
    const RUN: usize = 256 * LANES;
    let offset = grid(row_len);
    let mut total = 0u64;
    for run in terms.chunks(RUN) {
        let zero = (isa.i32(0), isa.i32(0));
        let (quads, rest) = run.as_chunks::<{ 4 * LANES }>();
        let mut sums = [zero; 4];
        for quad in quads {
            let blocks = quad.as_chunks::<LANES>().0;
            for i in 0..4 {
                sums[i] = add_q(isa, offset, sums[i], S::load(isa, &blocks[i]));
            }
        }
        let (blocks, tail) = rest.as_chunks::<LANES>();
        for block in blocks {
            sums[0] = add_q(isa, offset, sums[0], S::load(isa, block));
        }
        if !tail.is_empty() {
            let pad = isa.array_f32(S::load(isa, &padded(tail, tail[0])));
            sums[0] = add_q(isa, offset, sums[0], isa.load_f32(&padded(&pad[..tail.len()], 0.0)));
        }
        let high = (sums[0].0 + sums[1].0) + (sums[2].0 + sums[3].0);
        let low = (sums[0].1 + sums[1].1) + (sums[2].1 + sums[3].1);
        total = total.wrapping_add(units_of(isa, (high, low), run.len().div_ceil(LANES), row_len));
    }
    total
}

/// A number whose last place is the unit of masses, halfway to the next exponent.
#[inline(always)]
pub(crate) fn grid(row_len: usize) -> f32 {
    1.5 / if unit_bits(row_len) == 45 { 1 << 22 } else { 1 << 19 } as f32
}

/// What [`add_q`] made of so many blocks, at most 511 of them, in units.
#[inline(always)]
pub(crate) fn units_of<I: Isa>(isa: I, (high, low): (I::I32, I::I32), blocks: usize, row_len: usize) -> u64 {
    let blocks = blocks as u32;
    let high = isa.array_i32(high - isa.i32(1.0f32.to_bits().wrapping_mul(blocks) as i32));
    let low = isa.array_i32(low - isa.i32(grid(row_len).to_bits().wrapping_mul(blocks) as i32));
    let (mut high_sum, mut low_sum) = (0i64, 0i64);
    for i in 0..LANES {
        // Up to 511 times 2^23 each.
        high_sum += i64::from(high[i] as u32);
        low_sum += i64::from(low[i]);
    }
    ((high_sum << (unit_bits(row_len) - 23)) + low_sum) as u64
}

/// One block more for a lane's two sums, with [`grid`].
#[inline(always)]
pub(crate) fn add_q<I: Isa>(isa: I, offset: f32, (high, low): (I::I32, I::I32), e: I::F32) -> (I::I32, I::I32) {
    let u = e + isa.f32(1.0);
    let rest = e + (isa.f32(1.0 + offset) - u);
    (high + u.to_bits(), low + rest.to_bits())
}
