//! Fast numbers of about 100 bits, for the first evaluation of a candidate.
//!
//! A number is an unevaluated sum of two f64. It has full precision only between about 1e-250 and 1e250, where f64
//! represents both parts. [`DoubleDouble`], which verifies findings, has a separate exponent. The exponential is a
//! short series after a strong argument reduction, unlike the reference's long series. The two exponentials share no
//! code.

use evenkeel::reference::{DoubleDouble, Real};
use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Number of about 100 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Twofold {
    high: f64,
    low: f64,
}

/// Constant ln 2 in three parts. The first has 32 bits, so that its product with an exponent is exact.
const LN_2: [f64; 3] = [
    f64::from_bits(0x3fe6_2e42_fee0_0000),
    f64::from_bits(0x3dea_39ef_3579_3c76),
    f64::from_bits(0x3a8c_c01f_97b5_7a08),
];

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

impl Twofold {
    fn new(high: f64, low: f64) -> Self {
        let sum = high + low;
        if sum.is_finite() { Twofold { high: sum, low: low - (sum - high) } } else { Twofold { high: sum, low: 0.0 } }
    }

    fn times_power_of_two(self, power: f64) -> Self {
        Twofold { high: self.high * power, low: self.low * power }
    }

    /// Computes `e^x - 1` for `|x|` up to 0.35: evaluates the series at `x / 512`, then doubles the argument nine
    /// times.
    fn small_exp_m1(self) -> Self {
        let x = self.times_power_of_two(1.0 / 512.0);
        let mut sum = Twofold::from(0.0);
        for n in (1..=9u32).rev() {
            // Evaluates the series by Horner's scheme.
            sum = x / Twofold::from(f64::from(n)) * (sum + Twofold::from(1.0));
        }
        for _ in 0..9 {
            sum = sum.times_power_of_two(2.0) + sum * sum;
        }
        sum
    }

    /// Returns the integer `n` for which `n * ln 2` is nearest to this number, and this number minus `n * ln 2`.
    fn reduced(self) -> (f64, Self) {
        let n = (self.high * std::f64::consts::LOG2_E).round();
        let rest = LN_2.iter().fold(self, |rest, &part| {
            let product = n * part;
            rest - Twofold::new(product, n.mul_add(part, -product))
        });
        (n, rest)
    }
}

/// Computes `x * 2^n`. Multiplies in two steps, because 2^n itself may overflow or underflow.
fn scaled(x: Twofold, n: f64) -> Twofold {
    let half = (n / 2.0).trunc();
    x.times_power_of_two(half.exp2()).times_power_of_two((n - half).exp2())
}

impl From<f64> for Twofold {
    fn from(high: f64) -> Self {
        Twofold { high, low: 0.0 }
    }
}

impl PartialOrd for Twofold {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.high.partial_cmp(&other.high) {
            Some(Ordering::Equal) => self.low.partial_cmp(&other.low),
            order => order,
        }
    }
}

impl Neg for Twofold {
    type Output = Self;
    fn neg(self) -> Self {
        Twofold { high: -self.high, low: -self.low }
    }
}

impl Add for Twofold {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let (high, error) = two_sum(self.high, other.high);
        if !high.is_finite() {
            return Twofold::from(high);
        }
        let (low, rest) = two_sum(self.low, other.low);
        let sum = Twofold::new(high, error + low);
        Twofold::new(sum.high, sum.low + rest)
    }
}

impl Sub for Twofold {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Twofold {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let product = self.high * other.high;
        let error = self.high.mul_add(other.high, -product);
        Twofold::new(product, error + (self.high * other.low + self.low * other.high))
    }
}

impl Div for Twofold {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let first = self.high / other.high;
        if !first.is_finite() || other.high.is_infinite() {
            return Twofold::from(first);
        }
        let rest = self - other * Twofold::from(first);
        let second = rest.high / other.high;
        let rest = rest - other * Twofold::from(second);
        Twofold::new(first, second) + Twofold::from(rest.high / other.high)
    }
}

impl Real for Twofold {
    fn to_f64(self) -> f64 {
        self.high
    }

    fn from_double_double(value: DoubleDouble) -> Self {
        let high = value.to_f64();
        if !high.is_finite() {
            return Twofold::from(high);
        }
        Twofold::new(high, (value - DoubleDouble::from(high)).to_f64())
    }

    fn exp(self) -> Self {
        if self.high < -745.0 || self.high > 709.0 {
            return Twofold::from(self.high.exp());
        }
        let (n, rest) = self.reduced();
        scaled(rest.small_exp_m1() + Twofold::from(1.0), n)
    }

    fn exp_m1(self) -> Self {
        if self.high.abs() < 0.34 { self.small_exp_m1() } else { self.exp() - Twofold::from(1.0) }
    }

    fn exp2(self) -> Self {
        let n = self.high.round();
        let ln_2 = Twofold::new(LN_2[0], LN_2[1]) + Twofold::from(LN_2[2]);
        scaled(((self - Twofold::from(n)) * ln_2).exp(), n)
    }

    fn ln(self) -> Self {
        let near = self.high.ln();
        if !near.is_finite() {
            return Twofold::from(near);
        }
        // One step of Halley's method cubes the relative error of the first approximation.
        let ratio = self * Twofold::from(-near).exp();
        let one = Twofold::from(1.0);
        Twofold::from(near) + (ratio - one).times_power_of_two(2.0) / (ratio + one)
    }

    fn ln_1p(self) -> Self {
        if self.high.abs() > 0.25 {
            return (Twofold::from(1.0) + self).ln();
        }
        if self.high == 0.0 {
            return self;
        }
        // This is Halley's step of `ln`, in terms of `x` and `e^y - 1`, where `y` is the first approximation. This form
        // avoids cancellation for small `x`.
        let near = self.high.ln_1p();
        let power = Twofold::from(near).exp_m1();
        let difference = self - power;
        let sum = self + power + Twofold::from(2.0);
        Twofold::from(near) + difference.times_power_of_two(2.0) / sum
    }

    fn log2(self) -> Self {
        let ln_2 = Twofold::new(LN_2[0], LN_2[1]) + Twofold::from(LN_2[2]);
        self.ln() / ln_2
    }

    fn sqrt(self) -> Self {
        let root = self.high.sqrt();
        if root == 0.0 || !root.is_finite() {
            return Twofold::from(root);
        }
        let rest = self - Twofold::from(root) * Twofold::from(root);
        Twofold::new(root, rest.high / (2.0 * root))
    }

    fn tanh(self) -> Self {
        let power = (-self.abs().times_power_of_two(2.0)).exp_m1();
        let tanh = -power / (power + Twofold::from(2.0));
        if self.high < 0.0 { -tanh } else { tanh }
    }

    fn sin_cos(angle: f64) -> (Self, Self) {
        let (sin, cos) = DoubleDouble::sin_cos(angle);
        (Self::from_double_double(sin), Self::from_double_double(cos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares functions and operations with the reference.
    #[test]
    fn agrees_with_the_reference() {
        let mut x = 1.234_567e-12;
        while x < 600.0 {
            for x in [x, -x] {
                let (near, exact) =
                    (Twofold::from(x) / Twofold::from(3.0), DoubleDouble::from(x) / DoubleDouble::from(3.0));
                let pairs = [
                    (near, exact),
                    (near.exp(), exact.exp()),
                    (near.exp_m1(), exact.exp_m1()),
                    (near.abs().ln(), exact.abs().ln()),
                    (near.abs().ln_1p(), exact.abs().ln_1p()),
                    (near.abs().sqrt(), exact.abs().sqrt()),
                    (near.tanh(), exact.tanh()),
                    (near * near.exp() + near, exact * exact.exp() + exact),
                ];
                for (i, (near, exact)) in pairs.into_iter().enumerate() {
                    let back = DoubleDouble::from(near.high) + DoubleDouble::from(near.low);
                    let error = ((back - exact) / exact).to_f64().abs();
                    assert!(
                        error < 2f64.powi(-90),
                        "result {i} at {x:e}: expected a relative error below 2^-90, got {error:e}"
                    );
                }
            }
            x *= 1.37;
        }
    }
}
