//! Means and mean squares of a row, and the factors that normalise it.
//!
//! # Error
//!
//! With u = 2^-53, a sum by [rule O](crate::math::sum) of n terms is off by at most c u times the sum of their magnitudes,
//! c = 15 + n / 16384. A result of LayerNorm may be far smaller than the mean, which is therefore a sum of two f64:
//!
//! - f32, f16, bf16: the rounded quotient of sum and n, and its exact remainder over n. Where f64 holds the row's sum, as it
//!   does of near-constant rows, this is the mean to 106 bits. Elsewhere it is off by c u mean|x|, which is at most
//!   32.02 c u of the deviation in rows whose variance comes from one pass. In other rows the second pass sums the
//!   deviations too: beyond c + 2 times u of their magnitudes that sum is not rounding noise, and replaces the remainder.
//!   The mean is then off by at most 2 (c + 2) u of the deviation.
//! - f64: the first mean, and the mean of the deviations from it, which is off by c + 1 times u of their magnitude. Both are
//!   added without error, and the rounded sum becomes the first part.
//!
//! One pass gives the variance to 3280 c u, or 2^-37 for 16,384 columns: squares are summed to c u, and the square of the
//! mean is 1024 times the variance at most. Two passes give it to c + 5 times u. `docs/accuracy/norms.md` derives the
//! bounds of every norm.

use super::smallest::{Least, Smallest};
use crate::element::Element;
use crate::math::sum::sums_o;
use crate::report::Counts;
use crate::simd::{Float, Isa, Kernel, LANES, Select, fold};
use std::marker::PhantomData;

/// How a row is normalised: see [`Moments::normalise`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// A power of two that brings rows of f64 to where squares neither overflow nor vanish.
    unit: f64,
    mean: f64,
    /// What the mean was off by.
    mean_low: f64,
    /// 1 / sqrt(variance + eps), or 1 / sqrt(mean square + eps); 0 where that is 0, which gives zeros.
    scale: f64,
    /// What the scale was off by, for rows of f64.
    scale_low: f64,
    /// `-mean_low * scale`, for rows of other types.
    shift: f64,
    /// The mean square; not finite where the row is not.
    square: f64,
    /// See [`Moments::smallest`].
    smallest: f64,
}

/// One pass gives the variance where the square of the mean is at most so many times as large: what cancels is then
/// far below what f32 can hold.
const ONE_PASS: f64 = 1024.0;

/// [`Moments`] of a row as a function of its own, for ops to which a call for each row is nothing.
pub struct OfRow<'a, E> {
    pub x: &'a [E],
    pub eps: f64,
    /// Whether the mean is subtracted: true for LayerNorm, false for RMSNorm.
    pub centred: bool,
}

impl<E: Element> Kernel for OfRow<'_, E> {
    type Out = Moments;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Moments {
        let OfRow { x, eps, centred } = self;
        if centred { Moments::layer(isa, x, eps) } else { Moments::rms(isa, x, eps) }
    }
}

impl Moments {
    /// For RMSNorm: no mean.
    #[inline(always)]
    pub fn rms<I: Isa, E: Element>(isa: I, x: &[E], eps: f64) -> Self {
        let unit = unit(isa, x, eps.sqrt());
        let ([sum], least) = squares::<I, E, Whole>(isa, x, unit);
        Self::of_squares::<E>(x.len(), eps, unit, sum, least)
    }

    /// The same from the squares' sum, in units, of `len` elements.
    #[inline(always)]
    pub fn of_squares<E: Element>(len: usize, eps: f64, unit: f64, sum: f64, least: Least) -> Self {
        let n = len as f64;
        let square = sum / n;
        let [scale, scale_low] = scale::<E>([square, lost(sum, n, square)], eps * unit * unit);
        // A zero that changes no sign.
        Moments { unit, scale, scale_low, shift: -0.0, square, smallest: least.value, ..Moments::default() }
    }

    /// For the division by the Euclidean norm, or by eps where that is larger.
    #[inline(always)]
    pub fn l2<I: Isa, E: Element>(isa: I, x: &[E], eps: f64) -> Self {
        let unit = unit(isa, x, eps);
        let ([square], least) = squares::<I, E, Whole>(isa, x, unit);
        let (norm, eps) = (square.sqrt(), eps * unit);
        let divisor = if norm < eps { eps } else { norm };
        // Of zeros, with an eps that is 0 or has no reciprocal.
        let inverse = 1.0 / divisor;
        let scale = if inverse.is_infinite() { 0.0 } else { inverse };
        Moments { unit, scale, square, smallest: least.value, ..Moments::default() }
    }

    /// For LayerNorm: the variance about the mean, both over all n elements.
    #[inline(always)]
    pub fn layer<I: Isa, E: Element>(isa: I, x: &[E], eps: f64) -> Self {
        let n = x.len() as f64;
        let unit = unit(isa, x, eps.sqrt());
        if E::IS_F64 {
            let [total] = totals::<I, E, Whole>(isa, x, unit);
            let mean = total / n;
            let [sum] = about::<I, E, Whole, 1, 1>(isa, x, unit, [mean, 0.0]);
            let mean = refined_mean(x.len(), mean, sum);
            let [squares] = about::<I, E, Whole, 2, 1>(isa, x, unit, mean);
            return Self::of_squared_deviations::<E>(x.len(), eps, unit, mean, squares);
        }
        let sums = totals_and_squares::<I, E, Whole>(isa, x);
        match Self::of_one_pass::<E>(x.len(), eps, sums) {
            Ok(moments) => moments,
            Err(mean) => Self::of_deviations::<E>(x.len(), eps, mean, about::<I, E, Whole, 1, 2>(isa, x, unit, mean)),
        }
    }

    /// The same from the sums of a type that is not f64 and of its squares, of `len` elements; the mean alone, in two parts,
    /// where what cancels would show.
    #[inline(always)]
    pub fn of_one_pass<E: Element>(len: usize, eps: f64, [total, squares]: [f64; 2]) -> Result<Self, [f64; 2]> {
        let n = len as f64;
        let mean = total / n;
        let mean_low = lost(total, n, mean);
        let square = (squares - total * mean) / n;
        let loses_nothing = mean * mean <= ONE_PASS * square;
        if !loses_nothing {
            return Err([mean, mean_low]);
        }
        let [scale, _] = scale::<E>([square, 0.0], eps);
        Ok(Moments { unit: 1.0, mean, mean_low, scale, shift: -(mean_low * scale), square, ..Moments::default() })
    }

    /// The same from that mean, the sum of the deviations from its first part, and the sum of their squares.
    #[inline(always)]
    pub fn of_deviations<E: Element>(
        len: usize,
        eps: f64,
        [mean, mean_low]: [f64; 2],
        [sum, squares]: [f64; 2],
    ) -> Self {
        let n = len as f64;
        let low = sum / n;
        // What rounding alone may make of the mean deviation.
        let noise = (17.0 + n / 16384.0) * power_of_two(-53) * (squares / n).sqrt();
        let mean_low = if (low - mean_low).abs() > noise { low } else { mean_low };
        Self::of_squared_deviations::<E>(len, eps, 1.0, [mean, mean_low], squares)
    }

    /// The same from the mean and the sum of the squared deviations, in units.
    #[inline(always)]
    pub fn of_squared_deviations<E: Element>(
        len: usize,
        eps: f64,
        unit: f64,
        [mean, mean_low]: [f64; 2],
        squares: f64,
    ) -> Self {
        let n = len as f64;
        // Where all elements are equal, eps alone makes the scale, and may vanish in their units.
        let [unit, mean, mean_low] =
            if squares == 0.0 { [1.0, mean / unit, mean_low / unit] } else { [unit, mean, mean_low] };
        let square = squares / n;
        let [scale, scale_low] = scale::<E>([square, lost(squares, n, square)], eps * unit * unit);
        let shift = -(mean_low * scale);
        Moments { unit, mean, mean_low, scale, scale_low, shift, square, ..Moments::default() }
    }

    /// `(v * unit - mean) * scale`, for RMSNorm without the mean.
    #[inline(always)]
    pub fn normalise<I: Isa, E: Element, const MEAN: bool>(&self, isa: I, v: I::F64) -> I::F64 {
        let (mean, scale) = (isa.f64(self.mean), isa.f64(self.scale));
        if E::IS_F64 {
            let v = in_units::<I, E>(isa, v, self.unit);
            let d = if MEAN { v - mean - isa.f64(self.mean_low) } else { v };
            return d.mul_add(scale, d * isa.f64(self.scale_low));
        }
        if MEAN { (v - mean).mul_add(scale, isa.f64(self.shift)) } else { v * scale }
    }

    /// What the row was multiplied with, in units: see [`Moments::out_of_units`].
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Two powers of two: with them and the scale a number in units of 2^exponent, such as a gradient, is multiplied
    /// as the row was.
    pub fn out_of_units(&self, exponent: i32) -> [f64; 2] {
        // Beyond 2^2000 all that is not 0 overflows or vanishes.
        let exponent = ((self.unit.to_bits() >> 52) as i32 - 1023 + exponent).clamp(-2000, 2000);
        [power_of_two(exponent / 2), power_of_two(exponent - exponent / 2)]
    }

    /// All there is, but the shift, which the others give.
    pub fn numbers(&self) -> [f64; 7] {
        let Moments { unit, mean, mean_low, scale, scale_low, square, smallest, .. } = *self;
        [unit, mean, mean_low, scale, scale_low, square, smallest]
    }

    /// The mean as a sum of two f32, the larger first; none where f32 would round the second as a subnormal number.
    #[inline(always)]
    pub fn narrow_mean(&self) -> Option<[f32; 2]> {
        let high = self.mean as f32;
        let low = (self.mean - f64::from(high)) + self.mean_low;
        let is_kept = low == 0.0 || low.abs() >= f64::from(f32::MIN_POSITIVE);
        is_kept.then_some([high, low as f32])
    }

    /// The smallest magnitude in a row of f32 that is not 0, or one step less; +inf if there is none. Only known where
    /// there is no mean.
    pub fn smallest(&self) -> f64 {
        self.smallest
    }

    /// Whether the row is finite and its results are far from the limits of f32, weights apart.
    pub fn has_room(&self) -> bool {
        self.square < power_of_two(120) && (power_of_two(-60)..power_of_two(60)).contains(&self.scale)
    }

    /// Whether the row is finite.
    pub fn is_finite(&self) -> bool {
        self.square.is_finite()
    }

    /// Adds a row that is not finite to the counts.
    #[inline(always)]
    pub fn count(&self, counts: &mut Counts) {
        if self.mean.is_infinite() || self.square.is_infinite() {
            counts.infinite += 1;
        } else if self.square.is_nan() {
            counts.nan += 1;
        }
    }
}

/// As a sum of two f32, the larger first.
#[inline(always)]
pub fn pair(v: f64) -> [f32; 2] {
    let high = v as f32;
    [high, (v - f64::from(high)) as f32]
}

/// 2^exponent, for those that are normal.
#[inline(always)]
pub fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[inline(always)]
fn in_units<I: Isa, E: Element>(isa: I, v: I::F64, unit: f64) -> I::F64 {
    if E::IS_F64 { v * isa.f64(unit) } else { v }
}

/// The mean of a row of f64, in two parts, from a provisional one and the sum of the deviations from it.
#[inline(always)]
pub fn refined_mean(len: usize, mean: f64, sum: f64) -> [f64; 2] {
    let n = len as f64;
    let low = sum / n;
    let high = mean + low;
    if !high.is_finite() {
        // An infinite mean is counted as such.
        return [mean, low];
    }
    // What the addition lost (Knuth's two-sum), and what the division did.
    let part = high - mean;
    let lost_by_sum = (mean - (high - part)) + (low - part);
    [high, lost_by_sum + lost(sum, n, low)]
}

/// What rounding took off a quotient.
#[inline(always)]
fn lost(dividend: f64, divisor: f64, quotient: f64) -> f64 {
    (-quotient).mul_add(divisor, dividend) / divisor
}

/// 1 / sqrt(square + eps) and, for f64, what rounding took off it: there each rounding shows in the results. The square
/// has a low part too.
#[inline(always)]
fn scale<E: Element>([square, square_low]: [f64; 2], eps: f64) -> [f64; 2] {
    let sum = square + eps;
    let root = sum.sqrt();
    if root == 0.0 {
        return [0.0; 2];
    }
    let scale = 1.0 / root;
    if !E::IS_F64 {
        return [scale, 0.0];
    }
    // What the sum and the root lost, to first order.
    let (larger, smaller) = if square > eps { (square, eps) } else { (eps, square) };
    let of_sum = (smaller - (sum - larger)) + square_low;
    let of_root = ((-root).mul_add(root, sum) + of_sum) * (0.5 * scale);
    let low = ((-scale).mul_add(root, 1.0) - scale * of_root) * scale;
    [scale, if low.is_finite() { low } else { 0.0 }]
}

/// The power of two that rows of f64 are multiplied with: 1 unless their largest magnitude, or what stands beside it,
/// is where squares would overflow or vanish. The squares of narrower types always fit f64.
#[inline(always)]
fn unit<I: Isa, E: Element>(isa: I, x: &[E], beside: f64) -> f64 {
    if !E::IS_F64 {
        return 1.0;
    }
    unit_for(largest(isa, x, beside))
}

/// The largest magnitude of the elements and of what stands beside them.
#[inline(always)]
pub fn largest<I: Isa, E: Element>(isa: I, x: &[E], beside: f64) -> f64 {
    let largest = fold(
        x,
        E::ZERO,
        isa.f64(beside),
        #[inline(always)]
        |largest, _, values| E::load_wide(isa, values).abs().max(largest),
    );
    isa.array_f64(largest).into_iter().fold(0.0f64, |a, b| if b > a { b } else { a })
}

/// The power of two that brings f64 numbers of which this is the largest magnitude to where squares and sums neither
/// overflow nor vanish; 1 where they are already.
#[inline(always)]
pub fn unit_for(largest: f64) -> f64 {
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    if largest == 0.0 || exponent.abs() <= 400 || largest.is_infinite() {
        return 1.0;
    }
    power_of_two(-exponent.clamp(-1000, 1000))
}

/// What is kept of sums by rule O.
pub trait Kept {
    type Sums<const N: usize>;
    fn sums<I: Isa, E: Element, const N: usize>(
        isa: I,
        x: &[E],
        add: impl FnMut(usize, &[E; LANES], [I::F64; N]) -> [I::F64; N],
    ) -> Self::Sums<N>;
}

/// The sums of a row that is whole.
pub struct Whole;

impl Kept for Whole {
    type Sums<const N: usize> = [f64; N];

    #[inline(always)]
    fn sums<I: Isa, E: Element, const N: usize>(
        isa: I,
        x: &[E],
        add: impl FnMut(usize, &[E; LANES], [I::F64; N]) -> [I::F64; N],
    ) -> [f64; N] {
        sums_o(isa, x, E::ZERO, add)
    }
}

/// Rule O over the squares of the elements in units, and the smallest magnitude.
#[inline(always)]
pub fn squares<I: Isa, E: Element, K: Kept>(isa: I, x: &[E], unit: f64) -> (K::Sums<1>, Least) {
    let mut smallest = Smallest::new(isa);
    let sum = K::sums(
        isa,
        x,
        #[inline(always)]
        |i, block, [sum]| {
            if E::IS_F32 {
                smallest = smallest.meet(i, E::load(isa, block).abs());
            }
            let v = in_units::<I, E>(isa, E::load_wide(isa, block), unit);
            [add_square::<I, E>(sum, v)]
        },
    );
    let of_others = Least { value: 0.0, stepped: true };
    (sum, if E::IS_F32 { smallest.found(isa, x) } else { of_others })
}

/// Rule O over the elements in units.
#[inline(always)]
pub fn totals<I: Isa, E: Element, K: Kept>(isa: I, x: &[E], unit: f64) -> K::Sums<1> {
    K::sums(
        isa,
        x,
        #[inline(always)]
        |_, block, [sum]| [sum + E::load_wide(isa, block) * isa.f64(unit)],
    )
}

/// Rule O over the elements of a type that is not f64, and over their squares.
#[inline(always)]
pub fn totals_and_squares<I: Isa, E: Element, K: Kept>(isa: I, x: &[E]) -> K::Sums<2> {
    K::sums(
        isa,
        x,
        #[inline(always)]
        |_, block, [sum, squares]| {
            let v = E::load_wide(isa, block);
            [sum + v, v.mul_add(v, squares)]
        },
    )
}

/// Adds a square, which is rounded first only in f64: those of narrower types are exact.
#[inline(always)]
pub fn add_square<I: Isa, E: Element>(sum: I::F64, v: I::F64) -> I::F64 {
    if E::IS_F64 { sum + v * v } else { v.mul_add(v, sum) }
}

/// Rule O over the deviations of the elements in units from the mean, to the powers from `FIRST` on: their sum, that of their
/// squares, or both. The second part of the mean counts in squares of f64 alone.
#[inline(always)]
pub fn about<I: Isa, E: Element, K: Kept, const FIRST: u32, const N: usize>(
    isa: I,
    x: &[E],
    unit: f64,
    [mean, low]: [f64; 2],
) -> K::Sums<N> {
    isa.outline(About::<E, K, FIRST, N> { x, unit, mean, low, kept: PhantomData })
}

/// [`about`] as a function of its own: rows of narrower types seldom need it.
struct About<'a, E, K, const FIRST: u32, const N: usize> {
    x: &'a [E],
    unit: f64,
    mean: f64,
    low: f64,
    kept: PhantomData<K>,
}

impl<E: Element, K: Kept, const FIRST: u32, const N: usize> Kernel for About<'_, E, K, FIRST, N> {
    type Out = K::Sums<N>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> K::Sums<N> {
        let About { x, unit, mean, low, .. } = self;
        let (mean, low) = (isa.f64(mean), isa.f64(low));
        K::sums(
            isa,
            x,
            #[inline(always)]
            |i, block, mut sums: [I::F64; N]| {
                let d = in_units::<I, E>(isa, E::load_wide(isa, block), unit) - mean;
                let d = if E::IS_F64 && FIRST == 2 { d - low } else { d };
                let left = x.len().saturating_sub(i * LANES);
                let d = if left >= LANES { d } else { I::F64::select(isa.mask_wide((1 << left) - 1), d, isa.f64(0.0)) };
                for (power, sum) in (FIRST..).zip(&mut sums) {
                    *sum = if power == 2 { d.mul_add(d, *sum) } else { *sum + d };
                }
                sums
            },
        )
    }
}
