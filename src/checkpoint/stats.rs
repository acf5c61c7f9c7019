//! Statistics of the floats in a tensor.

use super::bins::Bin;
use super::moments::{Moments, hypot};
use super::narrow::Narrow;
use super::wide::{Beside, Wide, bin};
use serde::Serialize;

/// Probabilities of the quantiles in [`Stats`].
pub const QUANTILES: [f64; 5] = [0.001, 0.01, 0.5, 0.99, 0.999];

/// Statistics of a tensor. Counts cover all elements. All other statistics cover only the finite elements.
///
/// If no element is finite, all statistics except the counts are NaN, which is null in JSON. A statistic that is zero
/// is +0. For quantised types, the statistics are those of the decoded values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Number of NaN.
    pub nan: u64,
    /// Number of infinities of either sign.
    pub infinite: u64,
    /// Number of finite elements.
    pub finite: u64,
    /// Number of subnormal elements, without zeros. Subnormal refers to the tensor's type, or to f32 for quantised
    /// types.
    pub subnormal: u64,
    /// Number of zeros of either sign.
    pub zero: u64,
    /// Smallest element, exact.
    pub min: f64,
    /// Largest element, exact.
    pub max: f64,
    /// Mean of the elements.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Root mean square.
    pub rms: f64,
    /// Largest magnitude, exact.
    pub max_abs: f64,
    /// Quantiles of the finite elements, one for each probability p in [`QUANTILES`]. If the n elements are sorted and
    /// counted from 1, a quantile is element number `ceil(p * n)`.
    pub quantiles: [f64; 5],
    /// Quantiles of the magnitudes, for the same probabilities.
    pub abs_quantiles: [f64; 5],
    /// Relative width of the bins from which quantiles are computed. It is 2^-7 for f32 and quantised types, and 2^-4
    /// for f64. For types of up to 16 bits it is 0, because their quantiles are exact. For subnormal values the
    /// relative width is larger, because their bins all have the same absolute width.
    ///
    /// A quantile is the middle of a bin, clamped to the range from the smallest to the largest element. Its relative
    /// error is therefore at most half the width: 0.4 % for f32 and quantised types, and 3.2 % for f64.
    pub bin_width: f64,
    /// Numbers of elements that overflow or become 0, for each type of [`Narrow::ALL`].
    pub fits: Vec<Fit>,
    /// Numbers of elements in each range of magnitudes `2^exponent .. 2^(exponent+1)`. Ranges are sorted by exponent.
    /// Empty ranges are left out.
    pub binades: Vec<Binade>,
}

/// Numbers of elements that overflow or become 0 when they are rounded to a narrow type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fit {
    /// Name of the type.
    pub dtype: &'static str,
    /// Number of finite elements that exceed the type's largest finite value after rounding.
    pub overflow: u64,
    /// Number of non-zero elements that become 0.
    pub underflow: u64,
}

/// Numbers of elements with a magnitude between two consecutive powers of two.
///
/// A power of two counts in the range that it begins. In types whose elements are counted in bins
/// ([`Stats::bin_width`] above 0), it counts in the range that it ends, and the smallest subnormal numbers count in one
/// range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Binade {
    /// Exponent of the power of two at which the range of magnitudes begins.
    pub exponent: i32,
    /// Number of negative elements.
    pub negative: u64,
    /// Number of positive elements.
    pub positive: u64,
}

impl Stats {
    /// Returns whether all elements are finite and equal.
    pub fn is_constant(&self) -> bool {
        self.nan + self.infinite == 0 && self.min == self.max
    }
}

/// A magnitude, with the numbers of negative and positive elements of this magnitude.
struct MagnitudeCounts {
    magnitude: f64,
    negative: u64,
    positive: u64,
}

impl MagnitudeCounts {
    fn new(bin: &Bin, magnitude: f64) -> Self {
        MagnitudeCounts { magnitude, negative: bin.negative, positive: bin.positive }
    }

    fn count(&self) -> u64 {
        self.negative + self.positive
    }
}

/// Computes the statistics for a type whose bit patterns were all counted.
pub(crate) fn of_patterns(bins: &[Bin], value: impl Fn(u16) -> f64, min_normal: f64) -> Stats {
    let (finite, rest): (Vec<MagnitudeCounts>, Vec<MagnitudeCounts>) = bins
        .iter()
        .map(|bin| MagnitudeCounts::new(bin, value(bin.magnitude)))
        .partition(|entry| entry.magnitude.is_finite());
    let count = |of: fn(&MagnitudeCounts, f64) -> bool| {
        finite.iter().filter(|entry| of(entry, min_normal)).map(MagnitudeCounts::count).sum()
    };
    let of_rest = |nan| rest.iter().filter(|entry| entry.magnitude.is_nan() == nan).map(MagnitudeCounts::count).sum();
    let negative = || finite.iter().filter(|entry| entry.negative > 0);
    let positive = || finite.iter().filter(|entry| entry.positive > 0);
    let min = negative().next_back().map(|entry| -entry.magnitude).or(positive().next().map(|entry| entry.magnitude));
    let max = positive().next_back().map(|entry| entry.magnitude).or(negative().next().map(|entry| -entry.magnitude));
    let lost = |narrow: &Narrow| {
        let sum = |of: &dyn Fn(f64) -> bool| {
            finite.iter().filter(|entry| of(entry.magnitude)).map(MagnitudeCounts::count).sum()
        };
        Fit {
            dtype: narrow.name,
            overflow: sum(&|magnitude| magnitude > narrow.fits()),
            underflow: sum(&|magnitude| magnitude > 0.0 && magnitude <= narrow.vanishes),
        }
    };
    let moments = moments(&finite);
    Stats {
        nan: of_rest(true),
        infinite: of_rest(false),
        finite: moments.count,
        subnormal: count(|entry, min_normal| entry.magnitude > 0.0 && entry.magnitude < min_normal),
        zero: count(|entry, _| entry.magnitude == 0.0),
        min: min.unwrap_or(f64::NAN) + 0.0,
        max: max.unwrap_or(f64::NAN) + 0.0,
        mean: moments.mean,
        std: moments.std,
        rms: hypot(moments.mean, moments.std),
        max_abs: finite.last().map_or(f64::NAN, |entry| entry.magnitude),
        quantiles: quantiles(&finite, moments.count),
        abs_quantiles: abs_quantiles(&finite, moments.count),
        bin_width: 0.0,
        fits: Narrow::ALL.iter().map(lost).collect(),
        binades: binades(&finite),
    }
}

/// Computes the statistics for a type whose elements were counted by their upper bits.
pub(crate) fn of_wide<T: Wide>(bins: &[Bin], beside: &Beside) -> Stats {
    let mut finite: Vec<MagnitudeCounts> =
        bins.iter().map(|one| MagnitudeCounts::new(one, bin::<T>(one.magnitude)[2])).collect();
    // Zeros have the largest bin number but the smallest magnitude, so the bins must be sorted.
    finite.sort_by(|a, b| a.magnitude.total_cmp(&b.magnitude));
    let zero = finite.first().filter(|entry| entry.magnitude == 0.0).map_or(0, MagnitudeCounts::count);
    let Beside { nan, infinite, subnormal, min, max, min_abs, over, under_bf16, moments } = *beside;
    let count = moments.count;
    let some = |value: f64| if count == 0 { f64::NAN } else { value + 0.0 };
    let max_abs = some(max.max(-min));
    let fit = |(narrow, over): (&Narrow, u64)| {
        let Narrow { name, vanishes, .. } = *narrow;
        let below = |one: &&Bin| bin::<T>(one.magnitude)[1] <= vanishes;
        let counts = bins.iter().filter(below).map(|bin| bin.negative + bin.positive);
        let underflow = if name == "bf16" { under_bf16 } else { counts.sum::<u64>() - zero };
        Fit { dtype: name, overflow: over, underflow }
    };
    // A quantile is the middle of a bin. The middle may lie outside the range of all elements, so it is clamped to this
    // range.
    let within = |low: f64, high: f64| move |x: f64| if count == 0 { x } else { x.clamp(low, high) };
    Stats {
        nan,
        infinite,
        finite: count,
        subnormal,
        zero,
        min: some(min),
        max: some(max),
        mean: some(moments.mean),
        std: some(moments.std),
        rms: some(hypot(moments.mean, moments.std)),
        max_abs,
        quantiles: quantiles(&finite, count).map(within(min, max)),
        abs_quantiles: abs_quantiles(&finite, count).map(within(min_abs, max_abs)),
        bin_width: bin::<T>(1 << 14)[1] / bin::<T>(1 << 14)[0] - 1.0,
        fits: Narrow::ALL.iter().zip(over).map(fit).collect(),
        binades: binades(&finite),
    }
}

/// Computes the mean in a first pass over the values, and the standard deviation in a second pass.
fn moments(finite: &[MagnitudeCounts]) -> Moments {
    let count: u64 = finite.iter().map(MagnitudeCounts::count).sum();
    let mean = match finite {
        [] => f64::NAN,
        // If all elements are equal, the mean is equal to the elements, without rounding.
        [one] if one.negative == 0 => one.magnitude,
        [one] if one.positive == 0 => -one.magnitude,
        _ => {
            let sum = |entry: &MagnitudeCounts| entry.magnitude * (entry.positive as f64 - entry.negative as f64);
            finite.iter().map(sum).sum::<f64>() / count as f64
        }
    };
    let square = |entry: &MagnitudeCounts| {
        let (above, below) = (entry.magnitude - mean, entry.magnitude + mean);
        above * above * entry.positive as f64 + below * below * entry.negative as f64
    };
    let variance = finite.iter().map(square).sum::<f64>() / count as f64;
    Moments { count, mean: mean + 0.0, std: variance.sqrt() }
}

/// Returns one quantile for each of [`QUANTILES`]. `rising` yields increasing values with their counts. A quantile is
/// the first value at which the cumulative count reaches the quantile's probability times `count`.
fn at_shares(rising: impl Iterator<Item = (f64, u64)> + Clone, count: u64) -> [f64; 5] {
    QUANTILES.map(|share| {
        let place = ((share * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut reached = 0;
        let reaches = |&(_, count): &(f64, u64)| {
            reached += count;
            reached >= place
        };
        rising.clone().find(reaches).map_or(f64::NAN, |(value, _)| value + 0.0)
    })
}

fn quantiles(finite: &[MagnitudeCounts], count: u64) -> [f64; 5] {
    let negative = finite.iter().rev().map(|entry| (-entry.magnitude, entry.negative));
    at_shares(negative.chain(finite.iter().map(|entry| (entry.magnitude, entry.positive))), count)
}

fn abs_quantiles(finite: &[MagnitudeCounts], count: u64) -> [f64; 5] {
    at_shares(finite.iter().map(|entry| (entry.magnitude, entry.count())), count)
}

fn binades(finite: &[MagnitudeCounts]) -> Vec<Binade> {
    let mut binades: Vec<Binade> = Vec::new();
    for entry in finite.iter().filter(|entry| entry.magnitude > 0.0) {
        let exponent = exponent(entry.magnitude);
        match binades.last_mut() {
            Some(last) if last.exponent == exponent => {
                last.negative += entry.negative;
                last.positive += entry.positive;
            }
            _ => binades.push(Binade { exponent, negative: entry.negative, positive: entry.positive }),
        }
    }
    binades
}

/// Returns the exponent of a positive value. For a subnormal f64, returns the exponent of the smallest normal value.
fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52) as i32 - 1023).max(-1022)
}
