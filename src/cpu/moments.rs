//! Means and mean squares of a row, and the factors that normalise it.
//!
//! # Error
//!
//! With u = 2^-53, a [tiled sum](crate::math::sum) of n terms has an error of at most `c * u` times the sum of their
//! magnitudes, where `c = 15 + n / 16384`. A result of LayerNorm may be far smaller than the mean, so the mean is kept
//! as a sum of two f64:
//!
//! - f32, f16, bf16: the high part is the rounded quotient of the row's sum and n. The low part is the exact remainder
//!   divided by n. If f64 holds the row's sum exactly, as in near-constant rows, the two parts give the mean to 106
//!   bits. Otherwise the mean has an error of at most `c * u` times the mean magnitude of the elements. If one pass
//!   gives the variance, the error is at most `32.02 * c * u` times the standard deviation. Other rows take a second
//!   pass, which also averages the deviations from the high part. If this average differs from the low part by more
//!   than `(c + 2) * u` times the deviations' root mean square, the difference is not rounding noise, and the average
//!   becomes the low part. After a second pass, the mean has an error of at most `2 * (c + 2) * u` times the standard
//!   deviation.
//! - f64: a provisional mean, plus the average deviation from it. The error of this average is at most `(c + 1) * u`
//!   times the mean magnitude of the deviations. Both parts of the mean come from the exact sum of the provisional mean
//!   and this average: the high part is the rounded sum, and the low part is its rounding error.
//!
//! One pass gives the variance with a relative error of `3280 * c * u`, which is 2^-37 for 16,384 columns: the sum of
//! squares has a relative error of `c * u`, and the square of the mean is at most 1024 times the variance. Two passes
//! give the variance with a relative error of `(c + 5) * u`. `docs/accuracy/norms.md` derives the bounds of every norm.

use super::smallest::{Least, Smallest};
use crate::element::Element;
use crate::math::sum::sums_o;
use crate::report::Counts;
use crate::simd::{BLOCK, Float, Isa, Kernel, PrefetchSpan, Select, fold};
use std::marker::PhantomData;

/// Statistics and factors that normalise a row: see [`Moments::normalise`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// Power of two that multiplies the elements of f64 rows, so that squares neither overflow nor underflow.
    unit: f64,
    mean: f64,
    /// Low part of the mean.
    mean_low: f64,
    /// `1 / sqrt(variance + eps)` if the mean is subtracted, otherwise `1 / sqrt(mean_square + eps)`. If the square
    /// root is 0, the scale is 0, which gives zeros.
    scale: f64,
    /// Low part of the scale, for rows of f64.
    scale_low: f64,
    /// `-mean_low * scale`, for rows of types narrower than f64.
    shift: f64,
    /// Variance, or mean square if no mean is subtracted. It is NaN or infinite if the row is not finite.
    square: f64,
    /// Result of [`Moments::smallest`].
    smallest: f64,
}

/// Largest ratio of the squared mean to the variance at which one pass gives the variance. Cancellation then loses
/// about 10 of 53 bits, and the remaining bits are far more than f32 has.
pub const ONE_PASS: f64 = 1024.0;

/// Computes the [`Moments`] of a row in a function of its own, for ops where the cost of a call for each row is
/// negligible.
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
        let next = PrefetchSpan::none();
        if centred { Moments::layer(isa, x, next, eps) } else { Moments::rms(isa, x, next, eps) }
    }
}

impl Moments {
    /// Computes the moments for RMSNorm, which has no mean. Prefetches the source of `next`.
    #[inline(always)]
    pub fn rms<I: Isa, E: Element>(isa: I, x: &[E], next: PrefetchSpan<E, E>, eps: f64) -> Self {
        let unit = unit(isa, x, eps.sqrt());
        let ([sum], least) = squares::<I, E, FullRow>(isa, x, next, unit);
        Self::of_squares::<E>(x.len(), eps, unit, sum, least)
    }

    /// Computes the moments for RMSNorm from the sum of squares of `len` elements. The elements were multiplied by
    /// `unit` before they were squared.
    #[inline(always)]
    pub fn of_squares<E: Element>(len: usize, eps: f64, unit: f64, sum: f64, least: Least) -> Self {
        let n = len as f64;
        let square = sum / n;
        let [scale, scale_low] = scale::<E>([square, lost(sum, n, square)], eps * unit * unit);
        // The shift is -0, because adding -0 changes no sign.
        Moments { unit, scale, scale_low, shift: -0.0, square, smallest: least.value, ..Moments::default() }
    }

    /// Creates the moments of a row of a type narrower than f64 from the mean, its low part, the scale, the shift and
    /// the variance or mean square.
    #[inline(always)]
    pub fn of_group([mean, mean_low, scale, shift, square]: [f64; 5]) -> Self {
        Moments { unit: 1.0, mean, mean_low, scale, shift, square, ..Moments::default() }
    }

    /// Computes the moments for division by the Euclidean norm, or by eps if eps is larger.
    #[inline(always)]
    pub fn l2<I: Isa, E: Element>(isa: I, x: &[E], eps: f64) -> Self {
        let unit = unit(isa, x, eps);
        let ([square], least) = squares::<I, E, FullRow>(isa, x, PrefetchSpan::none(), unit);
        let (norm, eps) = (square.sqrt(), eps * unit);
        let divisor = if norm < eps { eps } else { norm };
        // For a row of zeros, the reciprocal is infinite if eps is 0 or so small that 1 / eps overflows. The scale is
        // then 0, which gives zeros.
        let inverse = 1.0 / divisor;
        let scale = if inverse.is_infinite() { 0.0 } else { inverse };
        Moments { unit, scale, square, smallest: least.value, ..Moments::default() }
    }

    /// Computes the moments for LayerNorm: the mean and the variance about it, both over all n elements. Prefetches the
    /// source of `next`, except in f64.
    #[inline(always)]
    pub fn layer<I: Isa, E: Element>(isa: I, x: &[E], next: PrefetchSpan<E, E>, eps: f64) -> Self {
        let n = x.len() as f64;
        let unit = unit(isa, x, eps.sqrt());
        if E::IS_F64 {
            let [total] = totals::<I, E, FullRow>(isa, x, unit);
            let mean = total / n;
            let [sum] = about::<I, E, FullRow, 1, 1>(isa, x, unit, [mean, 0.0]);
            let mean = refined_mean(x.len(), mean, sum);
            let [squares] = about::<I, E, FullRow, 2, 1>(isa, x, unit, mean);
            return Self::of_squared_deviations::<E>(x.len(), eps, unit, mean, squares);
        }
        let sums = totals_and_squares::<I, E, FullRow>(isa, x, next);
        match Self::of_one_pass::<E>(x.len(), eps, sums) {
            Ok(moments) => moments,
            Err(mean) => Self::of_deviations::<E>(x.len(), eps, mean, about::<I, E, FullRow, 1, 2>(isa, x, unit, mean)),
        }
    }

    /// Computes the moments for LayerNorm from the sum of `len` elements and the sum of their squares, for types other
    /// than f64. If cancellation would make the variance inaccurate, returns `Err` with only the mean, as a high and a
    /// low part.
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

    /// Computes the moments for LayerNorm from the mean that [`Moments::of_one_pass`] returned, the sum of the
    /// deviations from the mean's high part, and the sum of the squared deviations.
    #[inline(always)]
    pub fn of_deviations<E: Element>(
        len: usize,
        eps: f64,
        [mean, mean_low]: [f64; 2],
        [sum, squares]: [f64; 2],
    ) -> Self {
        let n = len as f64;
        let low = sum / n;
        // Bound of the rounding error in the average of the deviations.
        let noise = (17.0 + n / 16384.0) * power_of_two(-53) * (squares / n).sqrt();
        let mean_low = if (low - mean_low).abs() > noise { low } else { mean_low };
        Self::of_squared_deviations::<E>(len, eps, 1.0, [mean, mean_low], squares)
    }

    /// Computes the moments for LayerNorm. The arguments are the mean and the sum of the squared deviations. The
    /// elements were multiplied by `unit` before the mean and the deviations were computed.
    #[inline(always)]
    pub fn of_squared_deviations<E: Element>(
        len: usize,
        eps: f64,
        unit: f64,
        [mean, mean_low]: [f64; 2],
        squares: f64,
    ) -> Self {
        let n = len as f64;
        // If all elements are equal, the scale depends on eps alone. The product of eps and the square of `unit` could
        // underflow, so `unit` is set to 1.
        let [unit, mean, mean_low] =
            if squares == 0.0 { [1.0, mean / unit, mean_low / unit] } else { [unit, mean, mean_low] };
        let square = squares / n;
        let [scale, scale_low] = scale::<E>([square, lost(squares, n, square)], eps * unit * unit);
        let shift = -(mean_low * scale);
        Moments { unit, mean, mean_low, scale, scale_low, shift, square, ..Moments::default() }
    }

    /// Returns `(v * unit - mean) * scale` if `MEAN` is set, otherwise `v * unit * scale`.
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

    /// Returns the scale for elements that were multiplied by `unit`; see [`Moments::out_of_units`].
    #[inline(always)]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Returns two powers of two whose product is `unit` * 2^exponent. A caller that holds a gradient divided by
    /// 2^exponent multiplies it by both powers and by [`Moments::scale`].
    pub fn out_of_units(&self, exponent: i32) -> [f64; 2] {
        // With an exponent beyond +-2000, every number but 0 overflows or underflows.
        let exponent = ((self.unit.to_bits() >> 52) as i32 - 1023 + exponent).clamp(-2000, 2000);
        [power_of_two(exponent / 2), power_of_two(exponent - exponent / 2)]
    }

    /// Returns all fields except `shift`, which is computed from other fields.
    pub fn numbers(&self) -> [f64; 7] {
        let Moments { unit, mean, mean_low, scale, scale_low, square, smallest, .. } = *self;
        [unit, mean, mean_low, scale, scale_low, square, smallest]
    }

    /// Returns the mean as a sum of two f32, the larger first; `None` if the smaller would be subnormal.
    #[inline(always)]
    pub fn narrow_mean(&self) -> Option<[f32; 2]> {
        let high = self.mean as f32;
        let low = (self.mean - f64::from(high)) + self.mean_low;
        let is_kept = low == 0.0 || low.abs() >= f64::from(f32::MIN_POSITIVE);
        is_kept.then_some([high, low as f32])
    }

    /// Returns the smallest nonzero magnitude in a row of f32. The result may be the f32 just below this magnitude, for
    /// example if the row has zeros. If all elements are 0, returns +inf. Moments computed for LayerNorm or by
    /// [`Moments::of_group`] do not record this magnitude.
    #[inline(always)]
    pub fn smallest(&self) -> f64 {
        self.smallest
    }

    /// Returns whether the row is finite and its results, before they are weighted, are far from the limits of f32.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        self.square < power_of_two(120) && (power_of_two(-60)..power_of_two(60)).contains(&self.scale)
    }

    /// Returns whether the row is finite.
    #[inline(always)]
    pub fn is_finite(&self) -> bool {
        self.square.is_finite()
    }

    /// Counts the row if it is not finite.
    #[inline(always)]
    pub fn count(&self, counts: &mut Counts) {
        if self.mean.is_infinite() || self.square.is_infinite() {
            counts.infinite += 1;
        } else if self.square.is_nan() {
            counts.nan += 1;
        }
    }
}

/// Splits a number into a sum of two f32, the larger first.
#[inline(always)]
pub fn pair(v: f64) -> [f32; 2] {
    let high = v as f32;
    [high, (v - f64::from(high)) as f32]
}

/// Returns 2^exponent for the exponents of normal numbers.
#[inline(always)]
pub fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[inline(always)]
fn in_units<I: Isa, E: Element>(isa: I, v: I::F64, unit: f64) -> I::F64 {
    if E::IS_F64 { v * isa.f64(unit) } else { v }
}

/// Returns the mean of an f64 row as a high and a low part. `mean` is a provisional mean, and `sum` is the sum of the
/// deviations from this provisional mean.
#[inline(always)]
pub fn refined_mean(len: usize, mean: f64, sum: f64) -> [f64; 2] {
    let n = len as f64;
    let low = sum / n;
    let high = mean + low;
    if !high.is_finite() {
        // Keeps an infinite mean, so that the row is counted as infinite.
        return [mean, low];
    }
    // Error of the addition (Knuth's two-sum) plus the error of the division.
    let part = high - mean;
    let lost_by_sum = (mean - (high - part)) + (low - part);
    [high, lost_by_sum + lost(sum, n, low)]
}

/// Returns the rounding error of a quotient.
#[inline(always)]
fn lost(dividend: f64, divisor: f64, quotient: f64) -> f64 {
    (-quotient).mul_add(divisor, dividend) / divisor
}

/// Returns 1 / sqrt(square + eps), for a square with a high and a low part. For f64, also returns the rounding error of
/// the result, because every rounding shows in f64 results. For other types, the second number is 0.
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
    // Rounding errors of the sum and of its square root, to first order.
    let (larger, smaller) = if square > eps { (square, eps) } else { (eps, square) };
    let of_sum = (smaller - (sum - larger)) + square_low;
    let of_root = ((-root).mul_add(root, sum) + of_sum) * (0.5 * scale);
    let low = ((-scale).mul_add(root, 1.0) - scale * of_root) * scale;
    [scale, if low.is_finite() { low } else { 0.0 }]
}

/// Returns the power of two by which a row of f64 is multiplied. `beside` counts as one more element of the row. The
/// power is 1 unless the largest magnitude is below 2^-400 or at least 2^401. Squares of narrower types always fit f64.
#[inline(always)]
fn unit<I: Isa, E: Element>(isa: I, x: &[E], beside: f64) -> f64 {
    if !E::IS_F64 {
        return 1.0;
    }
    unit_for(largest(isa, x, beside))
}

/// Returns the largest magnitude of the elements, or the magnitude `beside` if this is larger.
#[inline(always)]
pub fn largest<I: Isa, E: Element>(isa: I, x: &[E], beside: f64) -> f64 {
    let largest = fold(
        x,
        E::ZERO,
        isa.f64(beside),
        #[inline(always)]
        |largest, _, values| E::load_wide(isa, values).abs().max(largest),
    );
    isa.max_f64(largest)
}

/// Returns a power of two by which f64 numbers are multiplied, so that their squares and sums neither overflow nor
/// underflow. The power is 1 if the numbers need no scaling. `largest` is the largest magnitude of the numbers.
#[inline(always)]
pub fn unit_for(largest: f64) -> f64 {
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    if largest == 0.0 || exponent.abs() <= 400 || largest.is_infinite() {
        return 1.0;
    }
    power_of_two(-exponent.clamp(-1000, 1000))
}

/// Selects the result of a tiled sum: one sum for a full row, or one sum for each tile of a shard.
pub trait Kept {
    type Sums<const N: usize>;
    fn sums<I: Isa, E: Element, const N: usize>(
        isa: I,
        x: &[E],
        add: impl FnMut(usize, &[E; BLOCK], [I::F64; N]) -> [I::F64; N],
    ) -> Self::Sums<N>;
}

/// Sums of a full row.
pub struct FullRow;

impl Kept for FullRow {
    type Sums<const N: usize> = [f64; N];

    #[inline(always)]
    fn sums<I: Isa, E: Element, const N: usize>(
        isa: I,
        x: &[E],
        add: impl FnMut(usize, &[E; BLOCK], [I::F64; N]) -> [I::F64; N],
    ) -> [f64; N] {
        sums_o(isa, x, E::ZERO, add)
    }
}

/// Multiplies the elements by `unit`, and adds their squares by the tiled sum. For f32, also finds the smallest nonzero
/// magnitude. Prefetches the source of `next`.
#[inline(always)]
pub fn squares<I: Isa, E: Element, K: Kept>(
    isa: I,
    x: &[E],
    next: PrefetchSpan<E, E>,
    unit: f64,
) -> (K::Sums<1>, Least) {
    let mut smallest = Smallest::new(isa);
    let sum = K::sums(
        isa,
        x,
        #[inline(always)]
        |i, block, [sum]| {
            next.source(i);
            if E::IS_F32 {
                smallest = smallest.update(i, E::load(isa, block).abs());
            }
            let v = in_units::<I, E>(isa, E::load_wide(isa, block), unit);
            [add_square::<I, E>(sum, v)]
        },
    );
    let of_others = Least { value: 0.0, stepped: true };
    (sum, if E::IS_F32 { smallest.found(isa, x) } else { of_others })
}

/// Multiplies the elements by `unit`, and adds them by the tiled sum.
#[inline(always)]
pub fn totals<I: Isa, E: Element, K: Kept>(isa: I, x: &[E], unit: f64) -> K::Sums<1> {
    K::sums(
        isa,
        x,
        #[inline(always)]
        |_, block, [sum]| [sum + E::load_wide(isa, block) * isa.f64(unit)],
    )
}

/// Sums the elements of a type other than f64, and their squares, by the tiled sum. Prefetches the source of `next`.
#[inline(always)]
pub fn totals_and_squares<I: Isa, E: Element, K: Kept>(isa: I, x: &[E], next: PrefetchSpan<E, E>) -> K::Sums<2> {
    K::sums(
        isa,
        x,
        #[inline(always)]
        |i, block, [sum, squares]| {
            next.source(i);
            let v = E::load_wide(isa, block);
            [sum + v, v.mul_add(v, squares)]
        },
    )
}

/// Adds a square. Only squares of f64 are rounded before the addition; those of narrower types are exact in f64.
#[inline(always)]
pub fn add_square<I: Isa, E: Element>(sum: I::F64, v: I::F64) -> I::F64 {
    if E::IS_F64 { sum + v * v } else { v.mul_add(v, sum) }
}

/// Computes `N` tiled sums of powers of the deviations from the mean. The exponents are consecutive and begin with
/// `FIRST`. Elements are multiplied by `unit` first. Only squares of f64 use the mean's low part.
#[inline(always)]
pub fn about<I: Isa, E: Element, K: Kept, const FIRST: u32, const N: usize>(
    isa: I,
    x: &[E],
    unit: f64,
    [mean, low]: [f64; 2],
) -> K::Sums<N> {
    isa.outline(About::<E, K, FIRST, N> { x, unit, mean, low, kept: PhantomData })
}

/// [`about`] compiled as a separate function, because rows of types narrower than f64 seldom need it.
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
                let left = x.len().saturating_sub(i * BLOCK);
                let d = if left >= BLOCK { d } else { I::F64::select(isa.mask_wide((1 << left) - 1), d, isa.f64(0.0)) };
                for (power, sum) in (FIRST..).zip(&mut sums) {
                    *sum = if power == 2 { d.mul_add(d, *sum) } else { *sum + d };
                }
                sums
            },
        )
    }
}
