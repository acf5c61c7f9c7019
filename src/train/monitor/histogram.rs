//! How often numbers of each magnitude were met.

use crate::floats::Floats;
use crate::simd::in_default;

/// Numbers from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Bin {
    /// The end that is nearer to -inf.
    pub low: f64,
    /// The other end.
    pub high: f64,
    /// How many there are.
    pub count: u64,
}

/// The finite numbers of a tensor by sign and power of two: what is about to vanish or to overflow is at its ends.
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
    /// From -inf on; those that are empty are left out. A power of two is in the bin that begins with it, seen from 0;
    /// subnormal numbers of f64 are all in one.
    pub bins: Vec<Bin>,
}

/// Exponents of f64.
const EXPONENTS: usize = 1 << 11;

impl Histogram {
    /// Of the finite elements.
    pub fn of(x: Floats<'_>) -> Self {
        let mut counts = vec![0u64; 2 * EXPONENTS];
        // Of +0 and -0, which have the exponent of subnormal numbers.
        let mut zeros = [0u64; 2];
        in_default(|| {
            x.each(|value| {
                counts[(value.to_bits() >> 52) as usize] += 1;
                zeros[usize::from(value.is_sign_negative())] += u64::from(value == 0.0);
            });
        });
        let (positive, negative) = counts.split_at(EXPONENTS);
        // The last exponent is that of what is not finite.
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

/// Where the magnitudes of an exponent begin.
fn end(exponent: usize) -> f64 {
    f64::from_bits(((exponent as u64) << 52).min(f64::MAX.to_bits()))
}
