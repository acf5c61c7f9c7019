//! Integral of the normal distribution, for erf and gelu. Near zero, the integral is an odd polynomial. Far from zero,
//! it is computed from a scaled tail function.

use super::exp::exp_parts;
use super::wide::{Wide, fast_two_sum, horner, product, quotient, two_sum};
use crate::simd::{Float, Isa};

/// Unevaluated sum of two f64.
type Sum<I> = (<I as Isa>::F64, <I as Isa>::F64);

/// Polynomial whose first two coefficients are sums of two f64.
pub struct Polynomial<const N: usize> {
    pub coefficients: [f64; N],
    pub low: [f64; 2],
}

impl<const N: usize> Polynomial<N> {
    /// Evaluates the polynomial at x + low, as a sum of two f64. The term of the first coefficient must be the largest.
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F64, low: I::F64) -> (I::F64, I::F64) {
        let rest = horner(isa, x, self.coefficients.split_at(1).1);
        let rest_low = isa.f64(self.low[1]);
        let term = x * rest;
        let term_low = x.mul_add(rest, isa.f64(-0.0) - term) + x.mul_add(rest_low, low * rest);
        let (hi, error) = fast_two_sum(isa.f64(self.coefficients[0]), term);
        (hi, error + (term_low + isa.f64(self.low[0])))
    }
}

/// Computes x P(x^2) as a sum of two f64, where P is `near`.
#[inline(always)]
pub fn odd<I: Isa, const N: usize>(isa: I, x: I::F64, near: &Polynomial<N>) -> (I::F64, I::F64) {
    let square = x * x;
    let square_low = x.mul_add(x, isa.f64(-0.0) - square);
    let p = near.eval(isa, square, square_low);
    product(isa, (x, isa.f64(0.0)), p)
}

/// Function of `a` in the tail: `e^(-share * a^2) * P(1 / (a + pole) - centre) / (a + pole)`. P is the polynomial
/// `far`. `share` must be a power of two.
pub struct Tail<const N: usize> {
    pub share: f64,
    pub pole: f64,
    pub centre: f64,
    pub far: Polynomial<N>,
}

impl<const N: usize> Tail<N> {
    /// Returns the tail at `a`, and the argument of its exponential.
    #[inline(always)]
    pub fn eval<I: Isa>(&self, isa: I, a: I::F64) -> (Wide<I>, I::F64) {
        let (scaled, e, power) = self.factors(isa, a);
        let (hi, lo) = product(isa, scaled, (e.hi, e.lo));
        (Wide { hi, lo, exponent: e.exponent }, power)
    }

    /// Returns three numbers for the tail at `a`: the factor that multiplies the exponential, the exponential, and its
    /// argument.
    #[inline(always)]
    pub fn factors<I: Isa>(&self, isa: I, a: I::F64) -> (Sum<I>, Wide<I>, I::F64) {
        let d = two_sum(a, isa.f64(self.pole));
        let reciprocal = isa.f64(1.0) / d.0;
        let left_out = reciprocal * ((isa.f64(-0.0) - reciprocal).mul_add(d.0, isa.f64(1.0)) - reciprocal * d.1);
        let (u, u_low) = two_sum(reciprocal, isa.f64(-self.centre));
        let p = self.far.eval(isa, u, u_low + left_out);
        let scaled = quotient(isa, p, d, reciprocal);
        let share = isa.f64(-self.share);
        let square = a * a;
        let square_low = a.mul_add(a, isa.f64(-0.0) - square);
        let power = square * share;
        (scaled, exp_parts(isa, power, square_low * share).normalised(), power)
    }
}
