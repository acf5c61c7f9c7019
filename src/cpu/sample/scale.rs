//! Conversion of logits to weights, masses and log-probabilities.
//!
//! A token's distance is `(logit - max) / temperature`. Its weight is `e^distance` in f32. Its mass is the weight
//! rounded to an integer number of units.

use crate::cpu::exp_sum::{ExpSum, Terms};
use crate::element::Element;
use crate::math::exp::term;
use crate::math::log::{log_scalar, log1p_scalar};
use crate::math::softmax_exp::WeightExp;
use crate::math::sum::{sum_q, sums_o, unit_bits, units};
use crate::sampler::distance;
use crate::simd::{Float, Isa, Kernel, NotNan, Select, Span, load_wide};

/// Conversion of a row's logits to weights. The largest logit has weight 1.
#[derive(Clone, Copy)]
pub struct Scale {
    pub max: f64,
    /// 1 / temperature. It is always finite.
    pub inverse: f64,
    pub vocabulary: usize,
}

impl Scale {
    pub fn new(max: f64, temperature: f64, vocabulary: usize) -> Self {
        Scale { max, inverse: (1.0 / temperature).min(f64::MAX), vocabulary }
    }

    /// Returns the integer that represents a weight of 1.
    pub fn one(self) -> u64 {
        1 << unit_bits(self.vocabulary)
    }

    pub fn temperature(self) -> f64 {
        1.0 / self.inverse
    }

    #[inline(always)]
    pub fn mass(self, weight: f32) -> u64 {
        units(weight, self.vocabulary)
    }

    /// Returns the total mass of the weights.
    #[inline(always)]
    pub fn mass_of<I: Isa>(self, isa: I, weights: &[f32]) -> u64 {
        isa.outline(Mass { weights, vocabulary: self.vocabulary })
    }

    /// Converts a mass to a weight.
    pub fn weight(self, mass: u64) -> f64 {
        mass as f64 / self.one() as f64
    }

    /// Returns (logit - max) / temperature, a number of at most 0, for each logit.
    #[inline(always)]
    pub fn distances<I: Isa>(self, isa: I, logits: I::F64) -> I::F64 {
        (logits - isa.f64(self.max)) * isa.f64(self.inverse)
    }

    /// Returns (logit - max) / temperature for one logit.
    pub fn distance(self, logit: f64) -> f64 {
        distance(logit, self.max, self.inverse)
    }

    /// Returns a bound slightly below every logit whose mass is at least p times the largest mass. The bound is at
    /// least [`f32::MIN`].
    #[inline(always)]
    pub fn logit_below<I: Isa>(self, isa: I, p: f64) -> f32 {
        /// Distance at which a token's mass rounds to 0.
        const DEEPEST: f64 = -33.0;
        /// Margin larger than the error of a weight's logarithm.
        const ASIDE: f64 = 1e-6;
        // Masses are rounded, so a weight slightly below `p` can still have a large enough mass.
        let weight = p - self.weight(1);
        let depth = if weight > 0.0 { ln_of(isa, weight).max(DEEPEST) } else { DEEPEST };
        ((self.max + (depth - ASIDE) * self.temperature()) as f32).next_down().max(f32::MIN)
    }

    /// Writes the weight of each logit.
    #[inline(always)]
    pub fn weigh<I: Isa, S: Element>(self, isa: I, logits: &[S], weights: &mut [f32]) {
        isa.outline(Weigh { scale: self, logits, weights });
    }

    /// Returns the logarithm of the sum of e^((logit - max) / temperature), and the sum itself.
    #[inline(always)]
    pub fn log_sum<I: Isa, S: Element>(self, isa: I, logits: &[S]) -> (f64, f64) {
        match logits {
            // With one candidate, the results are 0 and 1. The general code would also return them, but it takes longer
            // than finding the largest of a thousand logits.
            [only] if only.widen() == self.max => (0.0, 1.0),
            _ => isa.outline(LogSum { scale: self, logits }),
        }
    }

    /// Returns the sum of e^((logit - max) / temperature).
    #[inline(always)]
    pub fn sum<I: Isa, S: Element>(self, isa: I, logits: &[S]) -> ExpSum {
        ExpSum::of_terms(isa, logits.len(), Some(self.vocabulary), LogSum { scale: self, logits })
    }

    /// Returns the entropy of the tokens, and the logarithm of the sum of e^((logit - max) / temperature).
    #[inline(always)]
    pub fn entropy<I: Isa, S: Element>(self, isa: I, logits: &[S]) -> (f64, f64) {
        let (log_sum, sum) = self.log_sum(isa, logits);
        let zero = isa.f64(0.0);
        let [weighted] = sums_o(
            isa,
            logits,
            S::NEG_INFINITY,
            #[inline(always)]
            |_, block, [weighted]| {
                let d = self.distances(isa, S::load_wide(isa, block));
                let e = term(isa, d);
                // If e is 0, d may be -inf. The product e * d would then be NaN.
                [weighted + I::F64::select(e.eq(zero), zero, e * d)]
            },
        );
        ((log_sum - weighted / sum).max(0.0), log_sum)
    }
}

struct Mass<'a> {
    weights: &'a [f32],
    vocabulary: usize,
}

impl Kernel for Mass<'_> {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        sum_q(isa, self.weights, self.vocabulary)
    }
}

struct Weigh<'a, S> {
    scale: Scale,
    logits: &'a [S],
    weights: &'a mut [f32],
}

impl<S: Element> Kernel for Weigh<'_, S> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let exp = WeightExp::new(isa);
        Span::in_place(self.weights).reading(self.logits).map(
            isa,
            #[inline(always)]
            |_, z: I::F64| NotNan(exp.exp(self.scale.distances(isa, z))),
        );
    }
}

struct LogSum<'a, S> {
    scale: Scale,
    logits: &'a [S],
}

impl<S: Element> Terms for LogSum<'_, S> {
    #[inline(always)]
    fn block<I: Isa>(&self, isa: I, index: usize) -> I::F64 {
        term(isa, self.scale.distances(isa, load_wide(isa, self.logits, index, S::NEG_INFINITY)))
    }
}

impl<S: Element> Kernel for LogSum<'_, S> {
    type Out = (f64, f64);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (f64, f64) {
        let sum = self.scale.sum(isa, self.logits);
        let rest = sum.above_one(self.scale.vocabulary);
        (log1p_scalar(isa, rest), 1.0 + rest)
    }
}

/// Returns e^x for x <= 0, and 0 for x < -700.
#[inline(always)]
pub fn exp_of<I: Isa>(isa: I, x: f64) -> f64 {
    isa.array_f64(term(isa, isa.f64(x)))[0]
}

/// Returns the natural logarithm.
#[inline(always)]
pub fn ln_of<I: Isa>(isa: I, x: f64) -> f64 {
    log_scalar(isa, x).0
}
