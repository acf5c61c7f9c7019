//! Numbers with twice the digits of f64, used as a reference for f64 results.
//!
//! A number is an unevaluated sum of two f64, times a power of two (Dekker, "A floating-point technique for extending
//! the available precision", 1971). The power of two is stored separately. So finite results do not overflow, and
//! results that would be subnormal or zero in f64 keep all their digits. The sums, products and quotients are
//! algorithms 6, 12 and 17 of Joldes, Muller and Popescu, "Tight and rigorous error bounds for basic building blocks of
//! double-word arithmetic", 2017. The tail of the normal distribution is computed from a continued fraction, and the
//! other functions from Taylor series. `scripts/constants.py` prints the constants.

use super::Real;
use std::cmp::Ordering;
use std::num::FpCategory;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number with at least 100 significant bits and a wider range than f64.
///
/// The relative error of sums, differences, products, quotients and square roots is at most 2^-102. The relative error
/// of the other functions of [`Real`] is at most 2^-100. Infinities and NaN behave as in IEEE 754, and zero has a sign.
///
/// ```
/// use evenkeel::reference::{DoubleDouble, Real};
/// let third = DoubleDouble::from(1.0) / DoubleDouble::from(3.0);
/// assert_eq!(third.to_f64(), 1.0 / 3.0);
/// assert!((third - DoubleDouble::from(1.0 / 3.0)).to_f64() > 0.0); // the rounding error of f64
/// assert_eq!(DoubleDouble::from(-800.0).exp().ln().to_f64(), -800.0); // e^-800 is 0 in f64
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DoubleDouble {
    /// High part: at least 1 and less than 2 in magnitude, or zero, infinite or NaN.
    hi: f64,
    /// Low part: at most half an ULP of `hi`.
    lo: f64,
    /// Exponent in the value `(hi + lo) * 2^exponent`. 0 if `hi` is zero, infinite or NaN.
    exponent: i64,
}

/// ln 2 in three parts: the first 40 bits, the next 40 bits, and the rest, rounded to f64. The product of the first or
/// second part with an integer below 2^13 is exact.
const LN_2: [f64; 3] = [
    f64::from_bits(0x3fe6_2e42_fefa_2000),
    f64::from_bits(0x3d69_ef35_793c_6000),
    f64::from_bits(0x3ae6_7300_7e5e_d5e8),
];
/// pi / 2 as the unevaluated sum of two f64.
const HALF_PI: [f64; 2] = [f64::from_bits(0x3ff9_21fb_5444_2d18), f64::from_bits(0x3c91_a626_3314_5c07)];
/// Bits of 2 / pi after the binary point, 32 in each word, the most significant first.
#[rustfmt::skip]
const TWO_OVER_PI: [u32; 40] = [
    0xa2f9_836e, 0x4e44_1529, 0xfc27_57d1, 0xf534_ddc0, 0xdb62_9599, 0x3c43_9041, 0xfe51_63ab, 0xdebb_c561,
    0xb724_6e3a, 0x424d_d2e0, 0x0649_2eea, 0x09d1_921c, 0xfe1d_eb1c, 0xb129_a73e, 0xe882_35f5, 0x2ebb_4484,
    0xe99c_7026, 0xb45f_7e41, 0x3991_d639, 0x8353_39f4, 0x9c84_5f8b, 0xbdf9_283b, 0x1ff8_97ff, 0xde05_980f,
    0xef2f_118b, 0x5a0a_6d1f, 0x6d36_7ecf, 0x27cb_09b7, 0x4f46_3f66, 0x9e5f_ea2d, 0x7527_bac7, 0xebe5_f17b,
    0x3d07_39f7, 0x8a52_92ea, 0x6bfb_5fb1, 0x1f8d_5d08, 0x5603_3046, 0xfc7b_6bab, 0xf0cf_bc20, 0x9af4_361d,
];

/// Returns 2^e, which must be a normal number.
#[inline]
fn power_of_two(e: i64) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// Returns a + b and its rounding error.
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// Returns a + b and its rounding error, for |a| >= |b|.
#[inline]
fn fast_two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    (sum, b - (sum - a))
}

/// Returns a * b and its rounding error.
#[inline]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

impl DoubleDouble {
    /// Returns `(hi + lo) * 2^exponent`, scaled so that the magnitude of the high part is in [1, 2). The argument `hi`
    /// must be normal, zero, infinite or NaN. A normal `hi` must be much larger than `lo` in magnitude.
    fn new(hi: f64, lo: f64, exponent: i64) -> Self {
        if hi == 0.0 || !hi.is_finite() {
            return DoubleDouble { hi, lo: 0.0, exponent: 0 };
        }
        let (hi, lo) = fast_two_sum(hi, lo);
        Self::scaled(hi, lo, exponent)
    }

    /// Returns `(hi + lo) * 2^exponent`, scaled as in [`Self::new`]. The argument `hi` must be normal, and equal to
    /// `hi + lo` rounded to f64.
    #[inline]
    fn scaled(hi: f64, lo: f64, exponent: i64) -> Self {
        let shift = (hi.to_bits() >> 52 & 0x7ff) as i64 - 1023;
        if shift == 0 {
            return DoubleDouble { hi, lo, exponent };
        }
        // A shift of 1023 takes two steps, because 2^-1023 is not a normal number.
        let scaled = |v: f64| if shift < 1023 { v * power_of_two(-shift) } else { 0.5 * (v * power_of_two(-1022)) };
        DoubleDouble { hi: scaled(hi), lo: scaled(lo), exponent: exponent + shift }
    }

    /// Returns whether the number is neither zero, nor infinite, nor NaN.
    fn is_regular(self) -> bool {
        self.hi != 0.0 && self.hi.is_finite()
    }

    fn times_power_of_two(self, exponent: i64) -> Self {
        if self.is_regular() { DoubleDouble { exponent: self.exponent + exponent, ..self } } else { self }
    }

    /// Returns the sum of the terms t(0) = 1, `t(k) = t(k - 1) * z * n / d` for z = `self`, where `ratio(k)` gives the
    /// numerator n and the denominator d. Terms below 2^-112 are omitted. The sum must be at least 1/2.
    ///
    /// The sum is computed as `1 + z * n/d * (1 + z * n/d * (...))`, beginning with the innermost parentheses. Each
    /// factor `z * n/d` also multiplies the rounding errors of the inner sums, so a small z reduces these errors.
    fn series(self, ratio: impl Fn(u32) -> (f64, f64)) -> Self {
        let scale = if self.exponent < -1000 { 0.0 } else { power_of_two(self.exponent) };
        let z = (self.hi * scale, self.lo * scale);
        let (mut last, mut term) = (0, 1.0f64);
        while term.abs() > 2f64.powi(-112) {
            last += 1;
            let (n, d) = ratio(last);
            term *= z.0 * n / d;
        }
        let sum = (1..=last).rev().map(ratio).fold((1.0, 0.0), |sum: (f64, f64), (n, d)| {
            let (high, error) = two_product(z.0, sum.0);
            let mut product = (high, error + (z.0 * sum.1 + z.1 * sum.0));
            if n != 1.0 {
                let (high, error) = two_product(product.0, n);
                product = (high, error + product.1 * n);
            }
            let quotient = product.0 / d;
            let (back, error) = two_product(quotient, d);
            let rest = ((product.0 - back) - error + product.1) / d;
            let (high, error) = two_sum(1.0, quotient);
            fast_two_sum(high, error + rest)
        });
        DoubleDouble::new(sum.0, sum.1, 0)
    }

    /// Returns e^x - 1 for x = `self`, which must have |x| <= 0.35.
    fn exp_m1_small(self) -> Self {
        // x + x^2 / 2! + x^3 / 3! + ...
        self * self.series(|k| (1.0, f64::from(k + 1)))
    }

    /// Returns ln((1 + s) / (1 - s)) for s = `self`, which must have |s| <= 0.172.
    fn log_ratio(self) -> Self {
        // 2 (s + s^3 / 3 + s^5 / 5 + ...)
        let series = (self * self).series(|k| (f64::from(2 * k - 1), f64::from(2 * k + 1)));
        (self * series).times_power_of_two(1)
    }

    /// Returns ln 2.
    fn ln_2() -> Self {
        DoubleDouble::from(0.0).add_ln_2_times(1.0)
    }

    /// Splits a positive number into `2^n * m`, where m is in [1/sqrt(2), sqrt(2)]. Returns n and ln m.
    fn split_logarithm(self) -> (f64, Self) {
        let low = self.hi < std::f64::consts::SQRT_2;
        let n = if low { self.exponent } else { self.exponent + 1 };
        let (m, one) = (self.times_power_of_two(-n), DoubleDouble::from(1.0));
        (n as f64, ((m - one) / (m + one)).log_ratio())
    }

    /// Returns 2 pi.
    pub(crate) fn two_pi() -> Self {
        (DoubleDouble::from(HALF_PI[0]) + DoubleDouble::from(HALF_PI[1])).times_power_of_two(2)
    }

    /// Returns the density of the standard normal distribution at a = `self`, e^(-a^2/2) / sqrt(2 pi).
    pub(crate) fn normal_density(self) -> Self {
        (-self * self).times_power_of_two(-1).exp() / Self::two_pi().sqrt()
    }

    /// Returns the integral of the standard normal density from 0 to a = `self`, for 0 <= a < 2.5. Uses a series whose
    /// terms do not cancel.
    fn normal_body(self) -> Self {
        // a + a^3 / 3 + a^5 / (3 * 5) + ...
        let series = (self * self).series(|k| (1.0, f64::from(2 * k + 1)));
        self.normal_density() * self * series
    }

    /// Returns the integral of the standard normal density from a = `self` to infinity, for a >= 2.5. Uses Laplace's
    /// continued fraction.
    fn normal_tail(self) -> Self {
        let depth = 30 + (40.0 / self.to_f64()).powi(2) as u32;
        let fraction = |below, n| self + DoubleDouble::from(f64::from(n)) / below;
        self.normal_density() / (1..=depth).rev().fold(self, fraction)
    }

    /// Returns the cumulative distribution function of the standard normal distribution, with an accuracy of 90 bits.
    pub fn normal_cdf(self) -> Self {
        let (half, a) = (DoubleDouble::from(0.5), self.abs());
        match (a < DoubleDouble::from(2.5), self.hi < 0.0) {
            (true, true) => half - a.normal_body(),
            (true, false) => half + a.normal_body(),
            (false, true) => a.normal_tail(),
            (false, false) => DoubleDouble::from(1.0) - a.normal_tail(),
        }
    }

    /// Returns the error function of `self`.
    pub fn erf(self) -> Self {
        if self.hi == 0.0 || self.hi.is_nan() {
            return self;
        }
        let a = self.abs() * DoubleDouble::from(2.0).sqrt();
        let is_body = a < DoubleDouble::from(2.5);
        let half = if is_body { a.normal_body() } else { DoubleDouble::from(0.5) - a.normal_tail() };
        let magnitude = half.times_power_of_two(1);
        if self.hi < 0.0 { -magnitude } else { magnitude }
    }

    /// Returns `self` + n ln 2, for an integer n whose magnitude is below 2^13.
    fn add_ln_2_times(self, n: f64) -> Self {
        LN_2.iter().fold(self, |sum, &part| sum + DoubleDouble::from(n * part))
    }
}

impl From<f64> for DoubleDouble {
    fn from(value: f64) -> Self {
        match value.classify() {
            FpCategory::Normal => DoubleDouble::scaled(value, 0.0, 0),
            FpCategory::Subnormal => DoubleDouble::scaled(value * power_of_two(60), 0.0, -60),
            _ => DoubleDouble { hi: value, lo: 0.0, exponent: 0 },
        }
    }
}

impl PartialOrd for DoubleDouble {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // The high parts suffice if the signs differ, and for zeros, infinities and NaN. Any other high part has a
        // magnitude from 1 to 2.
        if !self.is_regular() || !other.is_regular() || (self.hi < 0.0) != (other.hi < 0.0) {
            return self.hi.partial_cmp(&other.hi);
        }
        let order = self.exponent.cmp(&other.exponent);
        if order.is_ne() {
            return Some(if self.hi < 0.0 { order.reverse() } else { order });
        }
        [self.hi, self.lo].partial_cmp(&[other.hi, other.lo])
    }
}

impl Neg for DoubleDouble {
    type Output = Self;

    fn neg(self) -> Self {
        DoubleDouble { hi: -self.hi, lo: -self.lo, exponent: self.exponent }
    }
}

impl Add for DoubleDouble {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        if !self.is_regular() || !other.is_regular() {
            return match (self.hi == 0.0, other.hi == 0.0) {
                (true, false) => other,
                (false, true) => self,
                _ => DoubleDouble::new(self.hi + other.hi, 0.0, 0),
            };
        }
        let (a, b) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        // If the exponents differ by more than 300, the smaller number cannot change the sum.
        if a.exponent - b.exponent > 300 {
            return a;
        }
        let scale = power_of_two(b.exponent - a.exponent);
        let (high, high_error) = two_sum(a.hi, b.hi * scale);
        let (low, low_error) = two_sum(a.lo, b.lo * scale);
        let (high, rest) = fast_two_sum(high, high_error + low);
        let (high, rest) = fast_two_sum(high, low_error + rest);
        // The terms may cancel to zero or to a subnormal number.
        if high.abs() < f64::MIN_POSITIVE {
            return DoubleDouble::new(high * power_of_two(60), rest * power_of_two(60), a.exponent - 60);
        }
        DoubleDouble::scaled(high, rest, a.exponent)
    }
}

impl Sub for DoubleDouble {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for DoubleDouble {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let (high, error) = two_product(self.hi, other.hi);
        let cross = self.hi.mul_add(other.lo, self.lo * other.lo);
        DoubleDouble::new(high, error + self.lo.mul_add(other.hi, cross), self.exponent + other.exponent)
    }
}

impl Div for DoubleDouble {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let quotient = self.hi / other.hi;
        // `rest` is the dividend minus quotient * divisor. `self.hi - product` is exact.
        let (product, error) = two_product(quotient, other.hi);
        let rest = (self.hi - product) + (self.lo - quotient.mul_add(other.lo, error));
        DoubleDouble::new(quotient, rest / other.hi, self.exponent - other.exponent)
    }
}

impl Real for DoubleDouble {
    fn to_f64(self) -> f64 {
        if self.exponent >= -1022 || !self.is_regular() {
            return match self.exponent {
                1024.. => self.hi * f64::INFINITY,
                e => self.hi * power_of_two(e),
            };
        }
        // The result is subnormal or zero. `hi` is scaled down in two steps, and only the second step rounds. If `hi`
        // lies halfway between two results, the sign of `lo` decides between them.
        let down = |v: f64| v * power_of_two(-1000) * power_of_two((self.exponent + 1000).max(-1000));
        let near = down(self.hi);
        let next = down(self.hi + self.lo.signum() * f64::EPSILON);
        let up = |v: f64| v * power_of_two(1000) * power_of_two((-self.exponent - 1000).min(1000));
        let tie = self.lo != 0.0 && (up(next) - self.hi).abs() == (up(near) - self.hi).abs();
        if tie { next } else { near }
    }

    fn from_double_double(value: DoubleDouble) -> Self {
        value
    }

    fn exp(self) -> Self {
        // Results far outside the range of f64 are replaced by 0 or infinity.
        if self.to_f64().abs() > 4000.0 {
            return DoubleDouble::new(if self.hi > 0.0 { f64::INFINITY } else { 0.0 }, 0.0, 0);
        }
        let n = (self.to_f64() / std::f64::consts::LN_2).round();
        let power = DoubleDouble::from(1.0) + self.add_ln_2_times(-n).exp_m1_small();
        power.times_power_of_two(n as i64)
    }

    fn exp_m1(self) -> Self {
        if self.hi == 0.0 {
            return self;
        }
        let is_small = self.abs() < DoubleDouble::from(0.34);
        if is_small { self.exp_m1_small() } else { self.exp() - DoubleDouble::from(1.0) }
    }

    fn exp2(self) -> Self {
        // Results far outside the range of f64 are replaced by 0 or infinity.
        if self.to_f64().abs() > 6000.0 {
            return DoubleDouble::new(if self.hi > 0.0 { f64::INFINITY } else { 0.0 }, 0.0, 0);
        }
        let n = self.to_f64().round();
        let fraction = (self - DoubleDouble::from(n)) * Self::ln_2();
        (DoubleDouble::from(1.0) + fraction.exp_m1_small()).times_power_of_two(n as i64)
    }

    fn ln(self) -> Self {
        if !self.is_regular() || self.hi < 0.0 {
            return DoubleDouble::new(self.hi.ln(), 0.0, 0);
        }
        let (n, of_rest) = self.split_logarithm();
        of_rest.add_ln_2_times(n)
    }

    fn log2(self) -> Self {
        if !self.is_regular() || self.hi < 0.0 {
            return DoubleDouble::new(self.hi.log2(), 0.0, 0);
        }
        let (n, of_rest) = self.split_logarithm();
        DoubleDouble::from(n) + of_rest / Self::ln_2()
    }

    fn ln_1p(self) -> Self {
        let one = DoubleDouble::from(1.0);
        if self.abs() < DoubleDouble::from(0.25) {
            return if self.hi == 0.0 { self } else { (self / (self + one + one)).log_ratio() };
        }
        (one + self).ln()
    }

    fn sqrt(self) -> Self {
        let odd = self.exponent.rem_euclid(2);
        let (hi, lo) = (self.hi * power_of_two(odd), self.lo * power_of_two(odd));
        let root = hi.sqrt();
        // If the root is zero, infinite or NaN, the low part is NaN, and `DoubleDouble::new` ignores it.
        let rest = (-root).mul_add(root, hi) + lo;
        DoubleDouble::new(root, rest / (2.0 * root), (self.exponent - odd) / 2)
    }

    fn tanh(self) -> Self {
        if self.hi == 0.0 || self.hi.is_nan() {
            return self;
        }
        // tanh|x| = -t / (2 + t) with t = e^(-2|x|) - 1.
        let x = -self.abs().times_power_of_two(1);
        let one = DoubleDouble::from(1.0);
        let t = if x > DoubleDouble::from(-0.34) { x.exp_m1_small() } else { x.exp() - one };
        let magnitude = -t / (one + one + t);
        if self.hi < 0.0 { -magnitude } else { magnitude }
    }

    fn sin_cos(angle: f64) -> (Self, Self) {
        if !angle.is_finite() {
            return (f64::NAN.into(), f64::NAN.into());
        }
        let (quadrant, r) = reduce(angle.abs());
        let (mut term, mut sin, mut cos) = (DoubleDouble::from(1.0), DoubleDouble::from(0.0), DoubleDouble::from(1.0));
        for n in 1..=30 {
            term = term * r / DoubleDouble::from(f64::from(n));
            match n % 4 {
                0 => cos = cos + term,
                1 => sin = sin + term,
                2 => cos = cos - term,
                _ => sin = sin - term,
            }
        }
        let (sin, cos) = match quadrant {
            0 => (sin, cos),
            1 => (cos, -sin),
            2 => (-sin, -cos),
            _ => (-cos, sin),
        };
        (if angle.is_sign_negative() { -sin } else { sin }, cos)
    }
}

/// Reduces a finite angle of at least 0: subtracts n pi/2 with an integer n, so that the magnitude of the rest is at
/// most pi/4. Returns n modulo 4, and the rest.
///
/// The angle's 53 bits are multiplied by the relevant bits of 2/pi (Payne and Hanek, "Radian reduction for
/// trigonometric functions", 1983), digit by digit in base 2^32.
fn reduce(angle: f64) -> (u32, DoubleDouble) {
    const WORDS: usize = 9;
    if angle <= std::f64::consts::FRAC_PI_4 {
        return (0, angle.into());
    }
    let exponent = (angle.to_bits() >> 52) as i64 - 1075;
    let mantissa = angle.to_bits() & ((1 << 52) - 1) | 1 << 52;
    // Only `WORDS` words of 2/pi are used, beginning with the word at index `first`. Earlier words contribute whole
    // turns, which do not change n modulo 4. Later words contribute less than 2^-200 quarter turns.
    let first = ((exponent - 2).max(0) / 32) as usize;
    let mut product = [0u32; WORDS + 2];
    for (shift, digit) in [mantissa & 0xffff_ffff, mantissa >> 32].into_iter().enumerate() {
        let mut carry = 0;
        for i in 0..WORDS {
            let word = u64::from(TWO_OVER_PI[first + WORDS - 1 - i]);
            let sum = digit * word + u64::from(product[i + shift]) + carry;
            product[i + shift] = sum as u32;
            carry = sum >> 32;
        }
        product[WORDS + shift] = carry as u32;
    }
    // `product` is the angle as an integer. Its unit is a quarter turn divided by 2^point.
    let point = 32 * (first + WORDS) as i64 - exponent;
    let bits_from = |at: i64| {
        let word = |i: i64| u64::from(product.get(i as usize).copied().unwrap_or(0));
        ((word(at / 32) | word(at / 32 + 1) << 32) >> (at % 32)) as u32
    };
    let quadrant = bits_from(point);
    let mut fraction: [u32; 7] = std::array::from_fn(|i| bits_from(point - 32 * (i as i64 + 1)));
    // If the fraction is above one half, it is replaced by its distance to 1. The code uses the bitwise complement of
    // the fraction, which differs from this distance by at most 2^-224.
    let above_half = fraction[0] >> 31 == 1;
    if above_half {
        fraction = fraction.map(|word| !word);
    }
    let mut r = DoubleDouble::from(0.0);
    for (i, word) in fraction.into_iter().enumerate().rev() {
        r = r + DoubleDouble::from(f64::from(word)).times_power_of_two(-32 * (i as i64 + 1));
    }
    let r = r * (DoubleDouble::from(HALF_PI[0]) + DoubleDouble::from(HALF_PI[1]));
    if above_half { (quadrant.wrapping_add(1) & 3, -r) } else { (quadrant & 3, r) }
}
