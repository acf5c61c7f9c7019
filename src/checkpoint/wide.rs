//! Statistics of elements of 32 and 64 bits. Elements are counted in bins by their upper 16 bits. The statistics that
//! bins cannot provide are computed from the elements themselves.

use super::bins::Tables;
use super::moments::Moments;
use super::narrow::Narrow;
use crate::math::bins::power_of_two;
use crate::simd::{Isa, Kernel, Token};

/// Number of elements that are processed together. They fit in the L1 cache.
pub(crate) const RUN: usize = 2048;
/// Number of independent accumulators of a loop. Independent accumulators allow the compiler to vectorise the loop.
const BLOCK: usize = 8;
/// Number of the bin that holds the zeros.
const ZEROS: u16 = 0x7fff;

/// Element type of 32 or 64 bits: f32 or f64.
///
/// To get the bin of a finite value, 1 is subtracted from its bit pattern, and the upper 16 bits are taken. So bin m
/// holds the magnitudes above `lower(m)`, up to and including `lower(m + 1)` ([`Wide::lower`]). A normal power of two
/// is therefore the last value of its bin. This matters because the largest value that becomes 0 in a narrow type is a
/// power of two. For zeros, the subtraction wraps around to a bin of their own.
pub(crate) trait Wide: Copy + PartialOrd {
    const ZERO: Self;
    const INFINITY: Self;
    const MAX: Self;
    const MIN_NORMAL: Self;
    /// Smallest normal value of f32. Magnitudes of at least this value are not subnormal and do not become 0 in bf16.
    /// Smaller magnitudes are checked one by one, because magnitudes of the same bin may differ in these respects.
    const SMALL: Self;
    /// Whether squares of values of this type may overflow or underflow in f64.
    const SCALED: bool;
    fn abs(self) -> Self;
    fn widen(self) -> f64;
    fn pattern(self) -> u16;
    /// Returns the lower end of a bin. The bin holds only magnitudes above it.
    fn lower(magnitude: u16) -> f64;
    /// Returns the largest magnitude that does not overflow in a narrow type.
    fn fits(narrow: &Narrow) -> Self;
}

macro_rules! wide {
    ($type:ident, $bits:ident, $scaled:literal, $fits:ident) => {
        impl Wide for $type {
            const ZERO: Self = 0.0;
            const INFINITY: Self = $type::INFINITY;
            const MAX: Self = $type::MAX;
            const MIN_NORMAL: Self = $type::MIN_POSITIVE;
            const SMALL: Self = f32::MIN_POSITIVE as $type;
            const SCALED: bool = $scaled;
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn widen(self) -> f64 {
                self.into()
            }
            #[inline(always)]
            fn pattern(self) -> u16 {
                (self.to_bits().wrapping_sub(1) >> ($bits::BITS - 16)) as u16
            }
            fn lower(magnitude: u16) -> f64 {
                $type::from_bits($bits::from(magnitude) << ($bits::BITS - 16)).into()
            }
            fn fits(narrow: &Narrow) -> Self {
                narrow.$fits()
            }
        }
    };
}
wide!(f32, u32, false, fits_f32);
wide!(f64, u64, true, fits);

/// Returns the lower end, the upper end and the middle of a bin. The upper end belongs to the bin, but the lower end
/// does not.
pub(crate) fn bin<T: Wide>(magnitude: u16) -> [f64; 3] {
    if magnitude == ZEROS {
        return [0.0; 3];
    }
    // The last bin ends at the largest finite number, not at infinity.
    let (lower, upper) = (T::lower(magnitude), T::lower(magnitude + 1).min(T::MAX.widen()));
    [lower, upper, lower + (upper - lower) / 2.0]
}

/// Statistics that the bins cannot provide.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub nan: u64,
    pub infinite: u64,
    pub subnormal: u64,
    pub min: f64,
    pub max: f64,
    /// Smallest magnitude.
    pub min_abs: f64,
    /// Number of elements that overflow in each narrow type.
    pub over: [u64; 4],
    /// Number of non-zero elements that become 0 in bf16.
    pub under_bf16: u64,
    pub moments: Moments,
}

impl Default for Beside {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        let moments = Moments::default();
        Beside { nan: 0, infinite: 0, subnormal: 0, min, max, min_abs: min, over: [0; 4], under_bf16: 0, moments }
    }
}

impl Beside {
    /// Merges the statistics of two parts. `self` is the first part.
    pub fn and(mut self, other: &Beside) -> Self {
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.subnormal += other.subnormal;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.min_abs = self.min_abs.min(other.min_abs);
        self.over = std::array::from_fn(|i| self.over[i] + other.over[i]);
        self.under_bf16 += other.under_bf16;
        self.moments = self.moments.and(other.moments);
        self
    }

    /// Adds a block, and counts its finite elements in the tables.
    pub fn add<T: Wide>(&mut self, x: &[T], token: Token, tables: &mut Tables) {
        if token.run(CountFinite(x)) == x.len() as u64 {
            return self.add_finite(x, token, tables);
        }
        let finite: Vec<T> = x.iter().copied().filter(|x| x.abs() < T::INFINITY).collect();
        let infinite = count(x, |x| x == T::INFINITY);
        self.infinite += infinite;
        self.nan += (x.len() - finite.len()) as u64 - infinite;
        self.add_finite(&finite, token, tables);
    }

    fn add_finite<T: Wide>(&mut self, x: &[T], token: Token, tables: &mut Tables) {
        if x.is_empty() {
            return;
        }
        let Summary { min, max, smallest, largest, moments } = token.run(Finite(x));
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.min_abs = self.min_abs.min(smallest.widen());
        self.moments = self.moments.and(moments);
        // Only magnitudes below [`Wide::SMALL`] can be subnormal or become 0 in bf16. Few blocks have such magnitudes.
        if smallest < T::SMALL {
            let bf16 = Narrow::ALL[1].vanishes;
            self.subnormal += count(x, |x| x < T::MIN_NORMAL && x > T::ZERO);
            self.under_bf16 += count(x, |x| x.widen() <= bf16 && x > T::ZERO);
        }
        for (over, narrow) in self.over.iter_mut().zip(Narrow::ALL) {
            let fits = T::fits(narrow);
            if largest > fits {
                *over += count(x, |x| x > fits);
            }
        }
        tables.add(x, T::pattern);
    }
}

/// Kernel that counts finite elements.
struct CountFinite<'a, T>(&'a [T]);

impl<T: Wide> Kernel for CountFinite<'_, T> {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> u64 {
        count(self.0, |x| x < T::INFINITY)
    }
}

/// Kernel that summarises a block of one or more finite elements.
struct Finite<'a, T>(&'a [T]);

struct Summary<T> {
    min: f64,
    max: f64,
    /// Smallest magnitude.
    smallest: T,
    /// Largest magnitude.
    largest: T,
    moments: Moments,
}

impl<T: Wide> Kernel for Finite<'_, T> {
    type Out = Summary<T>;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> Summary<T> {
        let x = self.0;
        let (min, max) = (best(x, |x| x, |a, b| a < b), best(x, |x| x, |a, b| a > b));
        let smallest = best(x, T::abs, |a, b| a < b);
        let largest = if min.abs() > max.abs() { min.abs() } else { max.abs() };
        let moments = moments(x, largest);
        Summary { min: min.widen(), max: max.widen(), smallest, largest, moments }
    }
}

/// Counts the elements of a block whose magnitude satisfies a condition.
#[inline(always)]
fn count<T: Wide>(x: &[T], is: impl Fn(T) -> bool) -> u64 {
    x.iter().map(|x| u32::from(is(x.abs()))).sum::<u32>().into()
}

/// Applies `value` to each element of a block, and returns the best result. `better` returns whether its first argument
/// is better than its second. `value` must be idempotent, because it is applied to intermediate results too.
#[inline(always)]
fn best<T: Wide>(x: &[T], value: impl Fn(T) -> T, better: impl Fn(T, T) -> bool) -> T {
    let choose = |best: T, x: T| if better(value(x), best) { value(x) } else { best };
    let first = value(x[0]);
    let mut lanes = [first; BLOCK];
    let (chunks, rest) = x.as_chunks::<BLOCK>();
    for chunk in chunks {
        lanes = std::array::from_fn(|lane| choose(lanes[lane], chunk[lane]));
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(first, choose)
}

/// Computes the moments from differences to the first element. A deviation that is small relative to the mean would be
/// lost in squares of the elements themselves.
#[inline(always)]
fn moments<T: Wide>(x: &[T], largest: T) -> Moments {
    // The scale keeps squares and their sums within the range of f64.
    let scale = match largest.widen() {
        largest if T::SCALED && largest > power_of_two(480) => power_of_two(-560),
        largest if T::SCALED && largest < power_of_two(-400) => power_of_two(600),
        _ => 1.0,
    };
    let pivot = x[0].widen() * scale;
    let difference = |x: T| x.widen() * scale - pivot;
    let count = x.len() as f64;
    let shift = sum(x, difference) / count;
    let squares = sum(x, |x| difference(x) * difference(x));
    let variance = (squares / count - shift * shift).max(0.0);
    Moments { count: x.len() as u64, mean: (pivot + shift) / scale, std: variance.sqrt() / scale }
}

#[inline(always)]
fn sum<T: Wide>(x: &[T], of: impl Fn(T) -> f64) -> f64 {
    let mut lanes = [0.0; BLOCK];
    let (chunks, rest) = x.as_chunks::<BLOCK>();
    for chunk in chunks {
        (0..BLOCK).for_each(|lane| lanes[lane] += of(chunk[lane]));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&x| of(x)).sum::<f64>()
}
