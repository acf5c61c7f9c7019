//! What the exponentials of a row come to, or of a part of one: their sum, accurate also without the largest of them.

use super::scores::{leaves_digits, log_of_units};
use crate::element::Element;
#[cfg(feature = "sharded")]
use crate::math::bins::GRIDS;
use crate::math::bins::{Bins, grids};
#[cfg(feature = "sharded")]
use crate::math::fixed_point::{LONG_BITS, is_long};
use crate::math::fixed_point::{RowSum, sum_bits, units_to_f64};
use crate::math::log::log1p_scalar;
use crate::simd::{Float, Isa, Kernel, Select, Span, block};

/// A sum against the maximum of the whole row. Parts are merged in any order, by integers and by rule B.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExpSum {
    /// By rule Q.
    units: u128,
    /// Of f64, in their place: what it is cut into.
    grids: [f64; 3],
    /// Of a sum for a logarithm that is barely above 1, or below: all but the largest.
    rest: Rest,
    /// The same of f64.
    bins: Bins,
}

/// Exponentials times a power of two, by rule Q.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rest {
    units: u128,
    finer: Finer,
}

/// The power of two, up to 2^126, that brings the largest exponential but that of the maximum between 1/2 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Finer(u32);

impl Finer {
    /// Of a row with this maximum, and with this for the largest logit below it.
    pub fn new(max: f64, second: f64) -> Self {
        /// More than exponentials are off by, so that none of them is above 1.
        const ASIDE: f64 = 1.0 / (1 << 20) as f64;
        let steps = (max - second) * std::f64::consts::LOG2_E - ASIDE;
        // Beyond that the smallest exponentials there are have all their bits.
        Finer(steps.clamp(0.0, 126.0) as u32)
    }

    fn factor(self) -> f32 {
        f32::from_bits((127 + self.0) << 23)
    }
}

impl ExpSum {
    /// Of exponentials that softmax divides, in f32.
    pub fn narrow(units: u128) -> Self {
        ExpSum { units, ..ExpSum::default() }
    }

    /// The same for a logarithm, where the sum is barely above 1: of a row of this length.
    #[inline(always)]
    pub fn peaked<I: Isa>(isa: I, units: u128, exps: &[f32], finer: Finer, row_len: usize) -> Self {
        let rest = Rest { units: isa.outline(RestOf { exps, finer, row_len }), finer };
        ExpSum { units, rest, ..ExpSum::default() }
    }

    /// Of exponentials in f64, to be divided by.
    #[inline(always)]
    pub fn wide<I: Isa>(isa: I, exps: &[f64]) -> Self {
        isa.outline(Wide { exps, row_len: None })
    }

    /// The same for a logarithm, of a row of this length.
    #[inline(always)]
    pub fn wide_for_log<I: Isa>(isa: I, exps: &[f64], row_len: usize) -> Self {
        isa.outline(Wide { exps, row_len: Some(row_len) })
    }

    /// Of so many terms; for a logarithm in a row of this length, if it is given.
    #[inline(always)]
    pub fn of_terms<I: Isa>(isa: I, len: usize, row_len: Option<usize>, terms: impl Terms) -> Self {
        let grids = grids(
            isa,
            len,
            #[inline(always)]
            |i| terms.block(isa, i),
        );
        let mut sum = ExpSum { grids, ..ExpSum::default() };
        if row_len.is_some_and(|row_len| sum.is_peaked(row_len)) {
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

    /// Whether a sum in f64 is so little above 1, or below, that what its terms are cut into leaves few digits of the rest.
    fn is_peaked(&self, row_len: usize) -> bool {
        let [first, second, _] = self.grids;
        (first - 1.0) + second < row_len as f64 / (1u64 << 34) as f64
    }

    /// What a sum in f64 for a logarithm is above 1.
    pub fn above_one(&self, row_len: usize) -> f64 {
        if self.is_peaked(row_len) { self.bins.value().0 } else { self.without_ones(1.0).0 }
    }

    /// The sum of both parts.
    pub fn merge(&mut self, other: Self) {
        self.units += other.units;
        self.grids.iter_mut().zip(other.grids).for_each(|(sum, more)| *sum += more);
        self.rest.units += other.rest.units;
        self.rest.finer = Finer(self.rest.finer.0.max(other.rest.finer.0));
        self.bins.merge(other.bins);
    }

    /// As a sum of two, of a row of this length.
    pub fn value<E: Element>(&self, row_len: usize) -> (f64, f64) {
        if E::IS_F64 {
            return self.without_ones(0.0);
        }
        (units_to_f64(self.units, row_len), 0.0)
    }

    /// A sum in f64 without so many ones, as a sum of two.
    fn without_ones(&self, ones: f64) -> (f64, f64) {
        let [first, second, third] = self.grids;
        let (high, low) = (first - ones, second + third);
        let sum = high + low;
        (sum, low - (sum - high))
    }

    /// 1 / sum in two parts, the larger first.
    pub fn inverse<E: Element>(&self, row_len: usize) -> (f64, f64) {
        let (sum, low) = self.value::<E>(row_len);
        let high = 1.0 / sum;
        if E::IS_F64 {
            return (high, -high.mul_add(sum, -1.0).mul_add(high, high * high * low));
        }
        (high, 0.0)
    }

    /// Its logarithm, accurate also where it is barely above 1.
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

    /// Without one of its terms, accurate also where that leaves little.
    pub fn without<E: Element>(&self, one: f64, row_len: usize) -> f64 {
        if E::IS_F64 {
            let (sum, low) = self.value::<E>(row_len);
            // Any other than the largest, 1, is half of it at most.
            return if one == 1.0 { self.above_one(row_len) } else { (sum - one) + low };
        }
        let others = self.units.saturating_sub((one * (1u64 << sum_bits(row_len)) as f64).round_ties_even() as u128);
        if leaves_digits(others, row_len) {
            return units_to_f64(others, row_len);
        }
        // It is the only one as large as 1, so that the sum is peaked.
        self.rest(row_len)
    }

    /// All but the largest, of a peaked row.
    fn rest(&self, row_len: usize) -> f64 {
        units_to_f64(self.rest.units, row_len) / f64::from(self.rest.finer.factor())
    }
}

/// How many integers a sum takes at most, without its bins.
#[cfg(feature = "sharded")]
pub const UNITS: usize = 3;

/// How many of the integers of [`ExpSum::units`] count in rows of this length.
#[cfg(feature = "sharded")]
pub fn units_for<E: Element>(is_for_logarithm: bool, row_len: usize) -> usize {
    if E::IS_F64 {
        return UNITS;
    }
    1 + usize::from(is_for_logarithm) + usize::from(is_long(row_len))
}

#[cfg(feature = "sharded")]
impl ExpSum {
    /// Integers of a part of a row of this length, whose sums over all parts are those of the row. [`units_for`] says how
    /// many of them count.
    ///
    /// A sum by rule Q that may not fit in 64 bits is sent as its fraction, which leaves 16 bits for the sum over up to
    /// 65,536 parts, and as its whole number; those of both sums share a word, as each is at most 2^21.
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

    /// With the sums of those integers, and no bins; of rows of this length that have this.
    pub fn of_units<E: Element>(units: [u64; UNITS], finer: Finer, row_len: usize) -> Self {
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

    /// Takes up those of another part.
    pub fn add_bins(&mut self, bins: Bins) {
        self.bins.merge(bins);
    }
}

/// A sum in f64 as a function of its own, which all ops share.
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

/// Terms from 0 to 1 that are made where they are added.
pub trait Terms {
    /// A block of them, zeros behind the last.
    fn block<I: Isa>(&self, isa: I, index: usize) -> I::F64;
}

impl Terms for &[f64] {
    #[inline(always)]
    fn block<I: Isa>(&self, isa: I, index: usize) -> I::F64 {
        isa.load_f64(&block(self, index, 0.0))
    }
}

/// All but the ones, each times the power of two.
struct RestOf<'a> {
    exps: &'a [f32],
    finer: Finer,
    row_len: usize,
}

impl Kernel for RestOf<'_> {
    type Out = u128;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u128 {
        /// As many as the stack has room for.
        const RUN: usize = 512;
        let RestOf { exps, finer, row_len } = self;
        let (one, zero, factor) = (isa.f32(1.0), isa.f32(0.0), isa.f32(finer.factor()));
        let mut buffer = [0.0f32; RUN];
        let mut sum = RowSum::new(row_len);
        for run in exps.chunks(RUN) {
            let scaled = Span::in_place(&mut buffer[..run.len()]).reading(run).numbers(
                isa,
                #[inline(always)]
                |_, e| I::F32::select(e.eq(one), zero, e * factor),
            );
            sum.add(isa, &*scaled);
        }
        sum.units()
    }
}
