//! Sum of the exponentials of a row, or of a shard of a row. The sum stays accurate when the largest exponential is
//! left out.

use super::scores::{leaves_digits, log_of_units};
use crate::element::Element;
#[cfg(feature = "sharded")]
use crate::math::bins::GRIDS;
use crate::math::bins::{Bins, grids};
#[cfg(feature = "sharded")]
use crate::math::fixed_point::{LONG_BITS, is_long};
use crate::math::fixed_point::{RowSum, sum_bits, units_to_f64};
use crate::math::log::log1p_scalar;
use crate::simd::{Float, Isa, Kernel, NotNan, Select, Span, load_wide};

/// Sum of exponentials relative to the maximum of the full row. Parts can be merged in any order: integer sums and the
/// binned sum do not depend on the order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExpSum {
    /// Fixed-point sum; unused for f64.
    units: u128,
    /// Exact sums of f64 exponentials. Each exponential is split into multiples of 2^-31, 2^-62 and 2^-93. Unused for
    /// other types.
    grids: [f64; 3],
    /// Sum of all terms except the largest, for an accurate logarithm. It is computed only if the sum of all terms is
    /// barely above 1. The sum of a part of a row may also be below 1, and `rest` is then computed too.
    rest: Rest,
    /// Sum of all terms except the largest, for f64; see `rest`.
    bins: Bins,
}

/// Fixed-point sum of exponentials that were multiplied by a power of two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rest {
    units: u128,
    finer: RescaleExponent,
}

/// Exponent of a power of two, at most 126. The power multiplies the row's exponentials that are below 1. The products
/// do not exceed 1, and the largest product is usually above 1/2.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RescaleExponent(u32);

impl RescaleExponent {
    /// Computes the exponent from a row's maximum and the largest logit below it.
    pub fn new(max: f64, second: f64) -> Self {
        /// Margin for the errors of exponentials. It is larger than the errors, so that no scaled exponential exceeds
        /// 1.
        const ASIDE: f64 = 1.0 / (1 << 20) as f64;
        let steps = (max - second) * std::f64::consts::LOG2_E - ASIDE;
        // The limit is 126, because a factor of 2^126 already makes the smallest nonzero exponentials normal numbers.
        RescaleExponent(steps.clamp(0.0, 126.0) as u32)
    }

    fn factor(self) -> f32 {
        f32::from_bits((127 + self.0) << 23)
    }
}

impl ExpSum {
    /// Creates the sum from the fixed-point sum of f32 exponentials, for the division in softmax.
    pub fn narrow(units: u128) -> Self {
        ExpSum { units, ..ExpSum::default() }
    }

    /// Sums the f32 exponentials of a max-dominated row with `row_len` columns. The sum is barely above 1. Its
    /// precision suffices for computing the logarithm of the sum.
    #[inline(always)]
    pub fn max_dominated<I: Isa>(isa: I, units: u128, exps: &[f32], finer: RescaleExponent, row_len: usize) -> Self {
        let rest = Rest { units: isa.outline(RestOf { exps, finer, row_len }), finer };
        ExpSum { units, rest, ..ExpSum::default() }
    }

    /// Sums f64 exponentials. The sum is precise enough to divide by it, but not to compute its logarithm.
    #[inline(always)]
    pub fn wide<I: Isa>(isa: I, exps: &[f64]) -> Self {
        isa.outline(Wide { exps, row_len: None })
    }

    /// Sums the f64 exponentials of a row of this length. The sum is precise enough to take its logarithm.
    #[inline(always)]
    pub fn wide_for_log<I: Isa>(isa: I, exps: &[f64], row_len: usize) -> Self {
        isa.outline(Wide { exps, row_len: Some(row_len) })
    }

    /// Sums `len` terms. With `row_len`, the sum is precise enough to take its logarithm.
    #[inline(always)]
    pub fn of_terms<I: Isa>(isa: I, len: usize, row_len: Option<usize>, terms: impl Terms) -> Self {
        let grids = grids(
            isa,
            len,
            #[inline(always)]
            |i| terms.block(isa, i),
        );
        let mut sum = ExpSum { grids, ..ExpSum::default() };
        if row_len.is_some_and(|row_len| sum.is_max_dominated(row_len)) {
            let (one, zero) = (isa.f64(1.0), isa.f64(0.0));
            sum.bins = Bins::of(
                isa,
                len,
                #[inline(always)]
                |i| {
                    let e = terms.block(isa, i);
                    I::F64::select(e.eq(one), zero, e)
                },
            );
        }
        sum
    }

    /// Returns whether the row is max-dominated: its f64 sum is below 1, or so close above 1 that subtracting 1 leaves
    /// few digits.
    fn is_max_dominated(&self, row_len: usize) -> bool {
        let [first, second, _] = self.grids;
        (first - 1.0) + second < row_len as f64 / (1u64 << 34) as f64
    }

    /// Returns this sum minus 1. The sum must be of f64 exponentials, and computed with the same `row_len`.
    pub fn above_one(&self, row_len: usize) -> f64 {
        if self.is_max_dominated(row_len) { self.bins.value().0 } else { self.without_ones(1.0).0 }
    }

    /// Adds the sum of another part.
    pub fn merge(&mut self, other: Self) {
        self.units += other.units;
        self.grids.iter_mut().zip(other.grids).for_each(|(sum, more)| *sum += more);
        self.rest.units += other.rest.units;
        self.rest.finer = RescaleExponent(self.rest.finer.0.max(other.rest.finer.0));
        self.bins.merge(other.bins);
    }

    /// Returns the sum for a row of this length as a high and a low part.
    pub fn value<E: Element>(&self, row_len: usize) -> (f64, f64) {
        if E::IS_F64 {
            return self.without_ones(0.0);
        }
        (units_to_f64(self.units, row_len), 0.0)
    }

    /// Returns the f64 sum minus `ones`, as a high and a low part.
    fn without_ones(&self, ones: f64) -> (f64, f64) {
        let [first, second, third] = self.grids;
        let (high, low) = (first - ones, second + third);
        let sum = high + low;
        (sum, low - (sum - high))
    }

    /// Returns 1 / sum as a high and a low part.
    pub fn inverse<E: Element>(&self, row_len: usize) -> (f64, f64) {
        let (sum, low) = self.value::<E>(row_len);
        let high = 1.0 / sum;
        if E::IS_F64 {
            return (high, -high.mul_add(sum, -1.0).mul_add(high, high * high * low));
        }
        (high, 0.0)
    }

    /// Returns the logarithm of the sum, accurate even if the sum is barely above 1.
    #[inline(always)]
    pub fn log<I: Isa, E: Element>(&self, isa: I, row_len: usize) -> f64 {
        if E::IS_F64 {
            return log1p_scalar(isa, self.above_one(row_len));
        }
        match log_of_units(isa, self.units, row_len) {
            Some(log) => log,
            None => log1p_scalar(isa, self.rest(row_len)),
        }
    }

    /// Returns the sum without the term `one`, accurate even if the result is small.
    pub fn without<E: Element>(&self, one: f64, row_len: usize) -> f64 {
        if E::IS_F64 {
            let (sum, low) = self.value::<E>(row_len);
            // The largest term is 1. Any smaller term is at most half of the sum, so subtracting it does not cancel.
            return if one == 1.0 { self.above_one(row_len) } else { (sum - one) + low };
        }
        let others = self.units.saturating_sub((one * (1u64 << sum_bits(row_len)) as f64).round_ties_even() as u128);
        if leaves_digits(others, row_len) {
            return units_to_f64(others, row_len);
        }
        // `others` is too small to contain a term of 1, so the row has only one such term, and is max-dominated.
        self.rest(row_len)
    }

    /// Returns the sum of all terms but the largest. The row must be max-dominated: its sum is barely above 1.
    fn rest(&self, row_len: usize) -> f64 {
        units_to_f64(self.rest.units, row_len) / f64::from(self.rest.finer.factor())
    }
}

/// Maximum number of integers in [`ExpSum::units`].
#[cfg(feature = "sharded")]
pub const UNITS: usize = 3;

/// Returns how many of the integers of [`ExpSum::units`] are used in rows of this length.
#[cfg(feature = "sharded")]
pub fn units_for<E: Element>(is_for_logarithm: bool, row_len: usize) -> usize {
    if E::IS_F64 {
        return UNITS;
    }
    1 + usize::from(is_for_logarithm) + usize::from(is_long(row_len))
}

#[cfg(feature = "sharded")]
impl ExpSum {
    /// Returns the sums of a part of a row as integers. `row_len` is the length of the whole row. Adding the integers
    /// of all parts of the row gives the integers of the whole row. [`units_for`] gives the number of integers used.
    ///
    /// There are two fixed-point sums: `units` has all terms, and `rest` has all but the largest. In long rows, each
    /// sum may exceed 64 bits, so each is split into a fraction and a whole number. A fraction's word has 16 spare
    /// bits, so that 65,536 parts can be added. The two whole numbers share a word, because each is at most 2^21.
    pub fn units<E: Element>(&self, row_len: usize) -> [u64; UNITS] {
        if E::IS_F64 {
            return std::array::from_fn(|i| (self.grids[i] / GRIDS[i]) as i64 as u64);
        }
        let (units, rest) = (self.units, self.rest.units);
        if !is_long(row_len) {
            return [units as u64, rest as u64, 0];
        }
        let fraction = |units: u128| units as u64 & ((1 << LONG_BITS) - 1);
        let whole = |units: u128| (units >> LONG_BITS) as u64;
        [fraction(units), whole(units) | whole(rest) << 32, fraction(rest)]
    }

    /// Builds the sum of a row of this length. `units` are the integers of [`ExpSum::units`], each added up over all
    /// parts of the row. `finer` is the exponent for the whole row. The caller adds the bins to the result afterwards.
    pub fn of_units<E: Element>(units: [u64; UNITS], finer: RescaleExponent, row_len: usize) -> Self {
        if E::IS_F64 {
            let grids = std::array::from_fn(|i| units[i] as i64 as f64 * GRIDS[i]);
            return ExpSum { grids, ..ExpSum::default() };
        }
        let [units, rest] = if is_long(row_len) {
            let [fraction, wholes, of_rest] = units;
            let units = |whole: u64, fraction: u64| (u128::from(whole) << LONG_BITS) + u128::from(fraction);
            [units(wholes & u64::from(u32::MAX), fraction), units(wholes >> 32, of_rest)]
        } else {
            [u128::from(units[0]), u128::from(units[1])]
        };
        ExpSum { units, rest: Rest { units: rest, finer }, ..ExpSum::default() }
    }

    pub fn bins(&self) -> Bins {
        self.bins
    }

    /// Adds the bins of another part.
    pub fn add_bins(&mut self, bins: Bins) {
        self.bins.merge(bins);
    }
}

/// Sum of f64 exponentials, compiled as a separate function that all ops share.
struct Wide<'a> {
    exps: &'a [f64],
    row_len: Option<usize>,
}

impl Kernel for Wide<'_> {
    type Out = ExpSum;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> ExpSum {
        let Wide { exps, row_len } = self;
        ExpSum::of_terms(isa, exps.len(), row_len, exps)
    }
}

/// Terms whose values are in [0, 1], computed when they are added.
pub trait Terms {
    /// Returns a block of terms, with zeros past the last one.
    fn block<I: Isa>(&self, isa: I, index: usize) -> I::F64;
}

impl Terms for &[f64] {
    #[inline(always)]
    fn block<I: Isa>(&self, isa: I, index: usize) -> I::F64 {
        load_wide(isa, self, index, 0.0)
    }
}

/// Sums the exponentials below 1, each multiplied by a power of two.
struct RestOf<'a> {
    exps: &'a [f32],
    finer: RescaleExponent,
    row_len: usize,
}

impl Kernel for RestOf<'_> {
    type Out = u128;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u128 {
        /// Number of terms scaled at a time, in a buffer on the stack.
        const RUN: usize = 512;
        let RestOf { exps, finer, row_len } = self;
        let (one, zero, factor) = (isa.f32(1.0), isa.f32(0.0), isa.f32(finer.factor()));
        let mut buffer = [0.0f32; RUN];
        let mut sum = RowSum::new(row_len);
        for run in exps.chunks(RUN) {
            let scaled = Span::in_place(&mut buffer[..run.len()]).reading(run).map(
                isa,
                #[inline(always)]
                |_, e: I::F32| NotNan(I::F32::select(e.eq(one), zero, e * factor)),
            );
            sum.add(isa, &*scaled);
        }
        sum.units()
    }
}
