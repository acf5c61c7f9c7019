//! Rows with few distinct values, each repeated many times. The exact norm of such a row costs one evaluation per
//! distinct value. So tests can search for the largest errors of norms even on wide rows.

use super::generate::Bits;
use super::norms::sum_is_exact;
use evenkeel::reference::{DoubleDouble, Real};
use rand::RngExt;
use rand::rngs::SmallRng;

/// Distinct values with the number of occurrences of each.
#[derive(Clone, Debug)]
pub struct FewValues<E>(pub Vec<(E, usize)>);

/// Number of families of rows that [`FewValues::of_family`] generates.
pub const FAMILIES: usize = 5;

impl<E: Bits> FewValues<E> {
    /// Returns a random row of the family. Rows of families 0 to 3 are nearly constant: they have one outlier (0), two
    /// clusters (1), a value at the mean of two others (2), or a tiny spread (3). `around_the_mean` makes rows of
    /// family 4.
    pub fn of_family(rng: &mut SmallRng, len: usize, family: usize) -> Self {
        if family == 4 {
            return Self::around_the_mean(rng, len);
        }
        let near_one = E::from_wide(1.0).place();
        let binade = E::from_wide(2.0).place() - near_one;
        let range = match rng.random_range(0..4) {
            0 => 0..4,
            1 => 0..binade,
            2 => -4..0,
            // Any positive finite value.
            _ => 1 - near_one..E::INFINITY.place() - near_one - 1,
        };
        let base = near_one + rng.random_range(range);
        let step = |rng: &mut SmallRng| 1i64 << rng.random_range(0..E::LIMITS.digits / 2);
        let mut others = Vec::new();
        match family {
            0 => others.push((step(rng), 1.min(len - 1))),
            1 => others.push((step(rng), rng.random_range(0..len))),
            2 => {
                let (each, step) = (rng.random_range(0..=(len - 1) / 2), step(rng));
                others.extend([(step, each), (-step, each)]);
                others.push((rng.random_range(1..4), 1.min(len - 1 - 2 * each)));
            }
            _ => {
                let mut left = len - 1;
                for step in 1..8 {
                    let count = rng.random_range(0..=left / 2);
                    others.push((step, count));
                    left -= count;
                }
            }
        }
        Self::at_places(base, len, &others)
    }

    /// Returns a row with equally many copies of a large value and of 0. All other elements are half of the large
    /// value, which is nearly the mean. A tiny number replaces one of the zeros.
    fn around_the_mean(rng: &mut SmallRng, len: usize) -> Self {
        let limits = E::LIMITS;
        let large = 2f64.powi(rng.random_range(0..=limits.max.log2() as i32 - 1));
        let tiny = E::from_wide(large * 2f64.powi(-rng.random_range(1..40)));
        let each = rng.random_range(0..=(len - 1) / 2);
        let mut values = vec![(E::from_wide(large / 2.0), len - 2 * each), (E::from_wide(large), each)];
        if each > 0 {
            values.push((tiny, 1));
            values.push((E::ZERO, each - 1));
        }
        values.retain(|(_, count)| *count > 0);
        FewValues(values)
    }

    /// Returns a row of `len` elements. Most elements have the value at position `base` in the ordered sequence of all
    /// values. `others` lists pairs of an offset from `base` and a count. A value that is not finite is replaced by the
    /// value at `base`.
    pub fn at_places(base: i64, len: usize, others: &[(i64, usize)]) -> Self {
        let value = |step: i64| {
            let value = E::at_place(base + step);
            if value.widen().is_finite() { value } else { E::at_place(base) }
        };
        let mut values = vec![(value(0), len - others.iter().map(|(_, count)| count).sum::<usize>())];
        values.extend(others.iter().map(|&(step, count)| (value(step), count)));
        values.retain(|(_, count)| *count > 0);
        FewValues(values)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Returns the row, and for each element the index of its value. The rarer values are scattered over the row.
    pub fn row(&self) -> (Vec<E>, Vec<u8>) {
        let len = self.len();
        let (mut row, mut which) = (vec![self.0[0].0; len], vec![0; len]);
        // A stride that is a prime and does not divide the length visits every position.
        let stride = [7919, 7907, 7901]
            .into_iter()
            .find(|prime| !len.is_multiple_of(*prime))
            .expect("at least one of 7919, 7907 and 7901 must not divide the row length");
        let mut at = len / 3;
        for (i, &(value, count)) in self.0.iter().enumerate().skip(1) {
            for _ in 0..count {
                (row[at], which[at]) = (value, i as u8);
                at = (at + stride) % len;
            }
        }
        (row, which)
    }

    /// Returns whether f64 represents every partial sum of these values exactly.
    pub fn sum_is_exact(&self) -> bool {
        sum_is_exact(self.0.iter().map(|(value, count)| (value.widen(), *count)))
    }

    /// Returns `(x - mean) / sqrt(variance + eps)` for each value `x`, or `x / sqrt(mean(x^2) + eps)` if `is_centred`
    /// is false.
    ///
    /// Averages the distances from the first value instead of the values, so that nothing cancels.
    pub fn normalised(&self, is_centred: bool, eps: f64) -> Vec<DoubleDouble> {
        let dd = DoubleDouble::from;
        let (zero, n) = (dd(0.0), dd(self.len() as f64));
        let base = if is_centred { dd(self.0[0].0.widen()) } else { zero };
        let far: Vec<(DoubleDouble, DoubleDouble)> =
            self.0.iter().map(|(value, count)| (dd(value.widen()) - base, dd(*count as f64))).collect();
        let mean = far.iter().fold(zero, |sum, &(far, count)| sum + far * count) / n;
        let mean = if is_centred { mean } else { zero };
        let square = far.iter().fold(zero, |sum, &(far, count)| sum + (far - mean) * (far - mean) * count) / n;
        let root = (square + dd(eps)).sqrt();
        far.iter().map(|&(far, _)| if root == zero { zero } else { (far - mean) / root }).collect()
    }
}
