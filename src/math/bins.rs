//! Binned sums, as defined in [`super::sum`], computed on blocks of lanes.

use crate::simd::{BLOCK, Float, Isa, MaskBits};

/// Number of bins of a sum.
const BINS: usize = 4;
/// Number of bits of a bin: the units of neighbouring bins differ by a factor of 2^31.
const WIDTH: i32 = 31;
/// Index of the top bin while all terms are zero.
const NONE: i32 = i32::MIN;
/// Value of `top` once a term is NaN or too large for any bin. The result is then NaN or an infinity.
const BEYOND: i32 = i32::MAX;
/// Largest magnitude of a term that fits in a bin.
const MOST: f64 = f64::from_bits((1023 + 960) << 52);

/// State of a binned sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bins {
    top: i32,
    /// Sums of the bins, in order from the top bin down. Each sum is an exact multiple of its bin's unit.
    sums: [f64; BINS],
}

impl Default for Bins {
    fn default() -> Self {
        Bins { top: NONE, sums: [0.0; BINS] }
    }
}

impl Bins {
    /// Computes the binned sum of `len` terms, block by block. `block(i)` returns terms 16 i to 16 i + 15, with zeros
    /// after the last term.
    #[inline(always)]
    pub fn of<I: Isa>(isa: I, len: usize, mut block: impl FnMut(usize) -> I::F64) -> Self {
        let zero = isa.f64(0.0);
        let (mut top, mut sums, mut beyond) = (NONE, [zero; BINS], None);
        let (mut room, mut units) = (zero, [zero; BINS]);
        for i in 0..len.div_ceil(BLOCK) {
            let mut rest = block(i);
            // If a term is NaN, `le` is false, so the negated comparison is true.
            if (!rest.abs().le(room)).any() {
                let terms = isa.array_f64(rest);
                if let Some(sum) = infinite(&terms) {
                    beyond = Some(beyond.unwrap_or(0.0) + sum);
                    continue;
                }
                let own = bin_of(terms.into_iter().fold(0.0, |largest, term| term.abs().max(largest)));
                sums = moved(sums, top, own, zero);
                (top, room) = (own, isa.f64(room_of(own)));
                for (unit, shifter) in units.iter_mut().zip(shifters(own)) {
                    *unit = isa.f64(shifter);
                }
            }
            for (sum, shifter) in sums.iter_mut().zip(units) {
                let multiple = (rest + shifter) - shifter;
                *sum = *sum + multiple;
                rest = rest - multiple;
            }
        }
        if let Some(sum) = beyond {
            return Bins { top: BEYOND, sums: [sum, 0.0, 0.0, 0.0] };
        }
        Bins { top, sums: totals(isa, sums) }
    }

    /// Adds the terms of `other` to this sum.
    pub fn merge(&mut self, other: Self) {
        let (mut high, low) = if self.top >= other.top { (*self, other) } else { (other, *self) };
        for (sum, more) in high.sums.iter_mut().zip(moved(low.sums, low.top, high.top, 0.0)) {
            *sum += more;
        }
        *self = high;
    }

    /// Returns the sum as a high and a low part.
    pub fn value(&self) -> (f64, f64) {
        let [first, second, third, fourth] = self.sums;
        if self.top == BEYOND {
            return (first, 0.0);
        }
        let (sum, error) = two_sum(first, second);
        let low = error + (third + fourth);
        let all = sum + low;
        (all, low - (all - sum))
    }
}

/// Number of integers that encode a sum.
#[cfg(feature = "sharded")]
pub const WORDS: usize = 1 + BINS;

#[cfg(feature = "sharded")]
impl Bins {
    pub fn to_words(self) -> [u64; WORDS] {
        let [a, b, c, d] = self.sums.map(f64::to_bits);
        [i64::from(self.top) as u64, a, b, c, d]
    }

    pub fn of_words([top, sums @ ..]: [u64; WORDS]) -> Self {
        Bins { top: top as i32, sums: sums.map(f64::from_bits) }
    }
}

/// Splits each term from 0 to 1 into a multiple of 2^-31, a multiple of 2^-62 and a multiple of 2^-93. Adds each of
/// these three parts over all terms, and returns the three sums. The sums are exact for up to 2^21 terms.
#[inline(always)]
pub fn grids<I: Isa>(isa: I, len: usize, mut block: impl FnMut(usize) -> I::F64) -> [f64; 3] {
    let (mut shifters, mut sums) = ([isa.f64(0.0); 3], [isa.f64(0.0); 3]);
    for (bin, shifter) in (1..).zip(&mut shifters) {
        *shifter = isa.f64(1.5 * power_of_two(52 - WIDTH * bin));
    }
    for i in 0..len.div_ceil(BLOCK) {
        let mut rest = block(i);
        for (sum, shifter) in sums.iter_mut().zip(shifters) {
            let multiple = (rest + shifter) - shifter;
            *sum = *sum + multiple;
            rest = rest - multiple;
        }
    }
    totals(isa, sums)
}

/// Adds the lanes of each block, and returns one sum for each block. A loop is used, because the closure of a `map`
/// call might be compiled without the vector instructions.
#[inline(always)]
fn totals<I: Isa, const N: usize>(isa: I, sums: [I::F64; N]) -> [f64; N] {
    let mut totals = [0.0; N];
    for (total, lanes) in totals.iter_mut().zip(sums) {
        for lane in isa.array_f64(lanes) {
            *total += lane;
        }
    }
    totals
}

/// Units of the three sums that [`grids`] returns, in this order.
#[cfg(feature = "sharded")]
pub const GRIDS: [f64; 3] = [1.0 / (1u64 << 31) as f64, 1.0 / (1u64 << 62) as f64, 1.0 / (1u128 << 93) as f64];

/// Returns the rounded sum and its rounding error. Together they are the exact sum.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// Moves sums from an array whose first bin is `top` to an array whose first bin is `to`. `to` must be at least `top`.
/// Sums of bins that no longer fit are dropped.
#[inline(always)]
fn moved<T: Copy>(sums: [T; BINS], top: i32, to: i32, zero: T) -> [T; BINS] {
    let by = usize::try_from(to.abs_diff(top)).unwrap_or(BINS);
    let mut moved = [zero; BINS];
    if by < BINS {
        moved[by..].copy_from_slice(&sums[..BINS - by]);
    }
    moved
}

/// Returns the sum of the terms that are NaN or too large for any bin. Each large term counts as an infinity of its
/// sign. Returns `None` if all terms fit in bins.
fn infinite(terms: &[f64]) -> Option<f64> {
    let beyond = terms.iter().filter(|term| term.is_nan() || term.abs() > MOST);
    beyond.map(|term| term * f64::INFINITY).reduce(|sum, term| sum + term)
}

/// Returns the largest magnitude that a term may have when the top bin is `bin`.
fn room_of(bin: i32) -> f64 {
    let above = WIDTH * (bin + 1) - 1;
    if above < -1022 { 0.0 } else { power_of_two(above).next_down() }
}

/// Returns the top bin for terms whose largest magnitude is `magnitude`.
fn bin_of(magnitude: f64) -> i32 {
    if magnitude == 0.0 {
        return NONE;
    }
    // If `magnitude` is subnormal, `exponent` is -1023. The bin is then the same as for the smallest normal numbers.
    let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
    (exponent + 1).div_euclid(WIDTH)
}

/// Returns 1.5 * 2^52 times the unit of each bin, in order from the top bin down. Adding such a number to a term rounds
/// the term to a multiple of the bin's unit.
fn shifters(top: i32) -> [f64; BINS] {
    let mut shifters = [0.0; BINS];
    for (bin, shifter) in (0..).zip(&mut shifters) {
        let exponent = 52 + WIDTH * (top - bin);
        let normal = exponent.max(-1022);
        // The last factor is 1 unless 2^exponent is subnormal.
        *shifter = 1.5 * power_of_two(normal) * power_of_two(exponent - normal);
    }
    shifters
}

/// Returns 2^exponent, which must be a normal number.
#[inline(always)]
pub const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::{Bins, power_of_two};
    use crate::math::sum::binned_sum;
    use crate::simd::{Isa, Kernel, Level, Token, load_wide, with_level};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng, seq::SliceRandom};

    struct BinnedSum<'a>(&'a [f64]);

    impl Kernel for BinnedSum<'_> {
        type Out = Bins;

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> Bins {
            Bins::of(
                isa,
                self.0.len(),
                #[inline(always)]
                |i| load_wide(isa, self.0, i, 0.0),
            )
        }
    }

    fn on(level: Level, terms: &[f64]) -> Bins {
        with_level(level, || Token::current().unwrap().run(BinnedSum(terms))).unwrap()
    }

    /// Returns random terms whose exponents are at most `spread` below `exponent`.
    fn terms(rng: &mut StdRng, count: usize, exponent: i32, spread: i32) -> Vec<f64> {
        let mut term = || {
            let exponent = exponent - rng.random_range(0..=spread);
            let sign = if rng.random_bool(0.2) { -1.0 } else { 1.0 };
            sign * (1.0 + rng.random::<f64>()) * power_of_two(exponent / 2) * power_of_two(exponent - exponent / 2)
        };
        (0..count).map(|_| term()).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow under Miri, and has no unsafe code")]
    fn no_order_and_no_cut_shows() {
        let seed = 17;
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let (cases, most) = if cfg!(miri) { (40, 100) } else { (400, 1500) };
        for case in 0..cases {
            let count = rng.random_range(0..most);
            let exponent = [0, -1, -40, -700, -1020, 5, 300, 900][case % 8];
            let spread = [0, 3, 40, 120, 400][case % 5].min(exponent + 1074);
            let mut terms = terms(&mut rng, count, exponent, spread);
            let expected = binned_sum(&terms);
            for level in Level::ALL.iter().copied().filter(|level| level.is_available()) {
                terms.shuffle(&mut rng);
                let (all, _) = on(level, &terms).value();
                let what = format!("{count} terms, {level}, 2^{exponent}, spread {spread}");
                assert_eq!(all.to_bits(), expected.to_bits(), "{what}: the sum must be exact");
                let at = rng.random_range(0..=count);
                let (mut left, right) = (on(level, &terms[..at]), on(level, &terms[at..]));
                left.merge(right);
                assert_eq!(
                    left,
                    on(level, &terms),
                    "{what}, split at index {at}: merging the sums of both parts must give the sum of all terms"
                );
            }
        }
    }

    #[test]
    fn what_has_no_bin() {
        for level in Level::ALL.iter().copied().filter(|level| level.is_available()) {
            assert_eq!(on(level, &[]).value(), (0.0, 0.0));
            assert_eq!(on(level, &[0.0, -0.0]).value(), (0.0, 0.0));
            let infinite = on(level, &[1.0, f64::INFINITY, 3.0]);
            assert_eq!(infinite.value(), (f64::INFINITY, 0.0));
            let mut all = on(level, &[2.0]);
            all.merge(infinite);
            assert_eq!(all, infinite);
            all.merge(on(level, &[-1.0, -1e300]));
            assert!(all.value().0.is_nan());
            assert_eq!(on(level, &[-1e300, 5.0]).value().0, f64::NEG_INFINITY);
            assert!(on(level, &[1.0, f64::NAN]).value().0.is_nan());
        }
    }
}
