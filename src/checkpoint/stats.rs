//! What a tensor's floats are like.

use super::bins::Bin;
use super::moments::{Moments, hypot};
use super::narrow::Narrow;
use super::wide::{Beside, Wide, bin};
use serde::Serialize;

/// The shares that quantiles are given for.
pub const QUANTILES: [f64; 5] = [0.001, 0.01, 0.5, 0.99, 0.999];

/// The statistics of a tensor: counts of all elements, and the rest of the finite ones. Where none is finite, all but
/// the counts are NaN, which JSON has as null. Zeros are +0. Of quantised types they are of the decoded values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// NaN.
    pub nan: u64,
    /// Infinities of either sign.
    pub infinite: u64,
    /// Finite elements.
    pub finite: u64,
    /// Subnormal values of the tensor's own type, without zeros; of quantised types, of f32.
    pub subnormal: u64,
    /// Zeros of either sign.
    pub zero: u64,
    /// The least, exact.
    pub min: f64,
    /// The largest, exact.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the population.
    pub std: f64,
    /// The root of the mean of squares.
    pub rms: f64,
    /// The largest magnitude, exact.
    pub max_abs: f64,
    /// The [`QUANTILES`] of x: of n sorted values the one at place ceil(share n), from 1.
    pub quantiles: [f64; 5],
    /// The same of the magnitudes.
    pub abs_quantiles: [f64; 5],
    /// The relative width of the bins that quantiles are the middle of: 0 of types up to 16 bits, whose quantiles are
    /// exact, 2^-7 of f32 and quantised types, 2^-4 of f64; more of subnormal values, whose bins are equally wide.
    pub bin_width: f64,
    /// What is lost in each of [`Narrow::ALL`].
    pub fits: [Fit; 4],
    /// How many elements have a magnitude in `2^exponent .. 2^(exponent+1)`, by rising exponent; those that have any.
    pub binades: Vec<Binade>,
}

/// What rounding to a narrow type loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fit {
    /// The type's name.
    pub dtype: &'static str,
    /// Finite elements that are beyond its largest finite value when rounded.
    pub overflow: u64,
    /// Elements that are not 0 and become it.
    pub underflow: u64,
}

/// The elements between one power of two and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Binade {
    /// The power.
    pub exponent: i32,
    /// Elements below 0.
    pub negative: u64,
    /// Elements above 0.
    pub positive: u64,
}

impl Stats {
    /// Whether all elements are finite and the same.
    pub fn is_constant(&self) -> bool {
        self.nan + self.infinite == 0 && self.min == self.max
    }
}

/// A magnitude that was met, and how often.
struct Met {
    magnitude: f64,
    negative: u64,
    positive: u64,
}

impl Met {
    fn new(bin: &Bin, magnitude: f64) -> Self {
        Met { magnitude, negative: bin.negative, positive: bin.positive }
    }

    fn count(&self) -> u64 {
        self.negative + self.positive
    }
}

/// Of a type whose patterns were all counted.
pub(crate) fn of_patterns(bins: &[Bin], value: impl Fn(u16) -> f64, min_normal: f64) -> Stats {
    let (finite, rest): (Vec<Met>, Vec<Met>) =
        bins.iter().map(|bin| Met::new(bin, value(bin.magnitude))).partition(|met| met.magnitude.is_finite());
    let count = |of: fn(&Met, f64) -> bool| finite.iter().filter(|met| of(met, min_normal)).map(Met::count).sum();
    let of_rest = |nan| rest.iter().filter(|met| met.magnitude.is_nan() == nan).map(Met::count).sum();
    let negative = || finite.iter().filter(|met| met.negative > 0);
    let positive = || finite.iter().filter(|met| met.positive > 0);
    let min = negative().next_back().map(|met| -met.magnitude).or(positive().next().map(|met| met.magnitude));
    let max = positive().next_back().map(|met| met.magnitude).or(negative().next().map(|met| -met.magnitude));
    let lost = |narrow: &Narrow| {
        let sum = |of: &dyn Fn(f64) -> bool| finite.iter().filter(|met| of(met.magnitude)).map(Met::count).sum();
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
        subnormal: count(|met, min_normal| met.magnitude > 0.0 && met.magnitude < min_normal),
        zero: count(|met, _| met.magnitude == 0.0),
        min: min.unwrap_or(f64::NAN) + 0.0,
        max: max.unwrap_or(f64::NAN) + 0.0,
        mean: moments.mean,
        std: moments.std,
        rms: hypot(moments.mean, moments.std),
        max_abs: finite.last().map_or(f64::NAN, |met| met.magnitude),
        quantiles: quantiles(&finite, moments.count),
        abs_quantiles: abs_quantiles(&finite, moments.count),
        bin_width: 0.0,
        fits: Narrow::ALL.each_ref().map(lost),
        binades: binades(&finite),
    }
}

/// Of a type that was counted by its upper bits.
pub(crate) fn of_wide<T: Wide>(bins: &[Bin], beside: &Beside) -> Stats {
    let mut finite: Vec<Met> = bins.iter().map(|one| Met::new(one, bin::<T>(one.magnitude)[2])).collect();
    // Zeros have the last of the bins.
    finite.sort_by(|a, b| a.magnitude.total_cmp(&b.magnitude));
    let zero = finite.first().filter(|met| met.magnitude == 0.0).map_or(0, Met::count);
    let Beside { nan, infinite, subnormal, min, max, over, under_bf16, moments } = *beside;
    let count = moments.count;
    let some = |value: f64| if count == 0 { f64::NAN } else { value + 0.0 };
    let max_abs = some(max.max(-min));
    let fit = |i: usize| {
        let Narrow { name, vanishes, .. } = Narrow::ALL[i];
        let below = |one: &&Bin| bin::<T>(one.magnitude)[1] <= vanishes;
        let counts = bins.iter().filter(below).map(|bin| bin.negative + bin.positive);
        let underflow = if name == "bf16" { under_bf16 } else { counts.sum::<u64>() - zero };
        Fit { dtype: name, overflow: over[i], underflow }
    };
    // The middle of a bin may be beyond all that is in it.
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
        abs_quantiles: abs_quantiles(&finite, count).map(within(0.0, max_abs)),
        bin_width: bin::<T>(1 << 14)[1] / bin::<T>(1 << 14)[0] - 1.0,
        fits: std::array::from_fn(fit),
        binades: binades(&finite),
    }
}

/// In two passes over the values.
fn moments(finite: &[Met]) -> Moments {
    let count: u64 = finite.iter().map(Met::count).sum();
    let mean = match finite {
        [] => f64::NAN,
        // Of a constant nothing is rounded.
        [one] if one.negative == 0 => one.magnitude,
        [one] if one.positive == 0 => -one.magnitude,
        _ => {
            let sum = |met: &Met| met.magnitude * (met.positive as f64 - met.negative as f64);
            finite.iter().map(sum).sum::<f64>() / count as f64
        }
    };
    let square = |met: &Met| {
        let (above, below) = (met.magnitude - mean, met.magnitude + mean);
        above * above * met.positive as f64 + below * below * met.negative as f64
    };
    let variance = finite.iter().map(square).sum::<f64>() / count as f64;
    Moments { count, mean: mean + 0.0, std: variance.sqrt() }
}

/// The first of rising values at which so many are reached as each share asks for.
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

fn quantiles(finite: &[Met], count: u64) -> [f64; 5] {
    let negative = finite.iter().rev().map(|met| (-met.magnitude, met.negative));
    at_shares(negative.chain(finite.iter().map(|met| (met.magnitude, met.positive))), count)
}

fn abs_quantiles(finite: &[Met], count: u64) -> [f64; 5] {
    at_shares(finite.iter().map(|met| (met.magnitude, met.count())), count)
}

fn binades(finite: &[Met]) -> Vec<Binade> {
    let mut binades: Vec<Binade> = Vec::new();
    for met in finite.iter().filter(|met| met.magnitude > 0.0) {
        let exponent = exponent(met.magnitude);
        match binades.last_mut() {
            Some(last) if last.exponent == exponent => {
                last.negative += met.negative;
                last.positive += met.positive;
            }
            _ => binades.push(Binade { exponent, negative: met.negative, positive: met.positive }),
        }
    }
    binades
}

/// The exponent of a positive value. Below f64's normal values, that of the smallest of them.
fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52) as i32 - 1023).max(-1022)
}
