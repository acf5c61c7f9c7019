//! Histograms of the magnitudes in a tensor.

use crate::floats::Floats;
use crate::simd::in_default;

/// A bin of a histogram: the number of elements from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Bin {
    /// Lower end of the bin.
    pub low: f64,
    /// Upper end of the bin.
    pub high: f64,
    /// Number of elements.
    pub count: u64,
}

/// Histogram of the finite elements of a tensor, with one bin for each sign and power of two. It shows elements that
/// are close to underflow or overflow.
///
/// ```
/// use evenkeel::train::Histogram;
/// let histogram = Histogram::of((&[-3.0f32, 0.0, 1.0, 1.5, f32::NAN]).into());
/// let bins: Vec<(f64, f64, u64)> = histogram.bins.iter().map(|bin| (bin.low, bin.high, bin.count)).collect();
/// assert_eq!(bins, [(-4.0, -2.0, 1), (0.0, 0.0, 1), (1.0, 2.0, 2)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Histogram {
    /// The bins in increasing order, without empty ones. A power of two belongs to the bin with the larger magnitudes.
    /// All subnormal f64 numbers of one sign share a bin.
    pub bins: Vec<Bin>,
}

/// Number of values that the exponent field of an f64 can have.
const EXPONENTS: usize = 1 << 11;

impl Histogram {
    /// Computes the histogram of the finite elements of `x`.
    pub fn of(x: Floats<'_>) -> Self {
        let mut counts = vec![0u64; 2 * EXPONENTS];
        // Counts of +0 and -0. Zeros are counted separately, because they have the exponent field of subnormal numbers.
        let mut zeros = [0u64; 2];
        in_default(|| {
            x.each(|value| {
                counts[(value.to_bits() >> 52) as usize] += 1;
                zeros[usize::from(value.is_sign_negative())] += u64::from(value == 0.0);
            });
        });
        let (positive, negative) = counts.split_at(EXPONENTS);
        // NaN and infinities have the largest value of the exponent field.
        let finite = EXPONENTS - 1;
        let below = (0..finite).rev().map(|i| Bin { low: -end(i + 1), high: -end(i), count: negative[i] });
        let above = (0..finite).map(|i| Bin { low: end(i), high: end(i + 1), count: positive[i] });
        let mut bins: Vec<Bin> = below.chain(above).collect();
        bins[finite - 1].count -= zeros[1];
        bins[finite].count -= zeros[0];
        bins.insert(finite, Bin { low: 0.0, high: 0.0, count: zeros[0] + zeros[1] });
        bins.retain(|bin| bin.count > 0);
        Histogram { bins }
    }
}

/// Returns the smallest magnitude with this exponent field. The exponent field of subnormal numbers is 0. For the
/// exponent field of infinity, returns the largest finite number instead.
fn end(exponent: usize) -> f64 {
    f64::from_bits(((exponent as u64) << 52).min(f64::MAX.to_bits()))
}
