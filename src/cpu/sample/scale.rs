//! How logits become weights, masses and log-probabilities.

use crate::cpu::exp_sum::{ExpSum, Terms};
use crate::element::Element;
use crate::math::exp::term;
use crate::math::log::{log_scalar, log1p_scalar};
use crate::math::softmax_exp::WeightExp;
use crate::math::sum::{sum_q, sums_o, unit_bits, units};
use crate::simd::{Float, Isa, Kernel, Select, Span, block};

/// What weighs a row's logits: its largest token weighs 1.
#[derive(Clone, Copy)]
pub struct Scale {
    pub max: f64,
    /// 1 / temperature, finite.
    pub inverse: f64,
    pub vocabulary: usize,
}

impl Scale {
    pub fn new(max: f64, temperature: f64, vocabulary: usize) -> Self {
        Scale { max, inverse: (1.0 / temperature).min(f64::MAX), vocabulary }
    }

    /// The mass of a weight of 1.
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

    /// The mass of all these weights.
    #[inline(always)]
    pub fn mass_of<I: Isa>(self, isa: I, weights: &[f32]) -> u64 {
        isa.outline(Mass { weights, vocabulary: self.vocabulary })
    }

    /// The weight of a mass.
    pub fn weight(self, mass: u64) -> f64 {
        mass as f64 / self.one() as f64
    }

    /// (logit - max) / temperature: at most 0.
    #[inline(always)]
    pub fn distances<I: Isa>(self, isa: I, logits: I::F64) -> I::F64 {
        (logits - isa.f64(self.max)) * isa.f64(self.inverse)
    }

    /// The same of one logit.
    pub fn distance(self, logit: f64) -> f64 {
        (logit - self.max) * self.inverse
    }

    /// A logit a little less than what weighs a share p of the largest, and at least [`f32::MIN`].
    #[inline(always)]
    pub fn logit_below<I: Isa>(self, isa: I, p: f64) -> f32 {
        /// Tokens this far below the largest have no mass.
        const DEEPEST: f64 = -33.0;
        /// More than the logarithm of a weight is off by.
        const ASIDE: f64 = 1e-6;
        // Masses are rounded: half a unit less may do.
        let weight = p - self.weight(1);
        let depth = if weight > 0.0 { ln_of(isa, weight).max(DEEPEST) } else { DEEPEST };
        ((self.max + (depth - ASIDE) * self.temperature()) as f32).next_down().max(f32::MIN)
    }

    /// The weight of each logit.
    #[inline(always)]
    pub fn weigh<I: Isa, S: Element>(self, isa: I, logits: &[S], weights: &mut [f32]) {
        isa.outline(Weigh { scale: self, logits, weights });
    }

    /// The logarithm of the sum of e to each distance, and the sum.
    #[inline(always)]
    pub fn log_sum<I: Isa, S: Element>(self, isa: I, logits: &[S]) -> (f64, f64) {
        match logits {
            // As the sum has it, which takes longer than to find the largest of a thousand.
            [only] if only.widen() == self.max => (0.0, 1.0),
            _ => isa.outline(LogSum { scale: self, logits }),
        }
    }

    /// The sum of e to each distance.
    #[inline(always)]
    pub fn sum<I: Isa, S: Element>(self, isa: I, logits: &[S]) -> ExpSum {
        ExpSum::of_terms(isa, logits.len(), Some(self.vocabulary), LogSum { scale: self, logits })
    }

    /// The entropy of what has these logits, and the logarithm of the sum of e to each distance.
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
                // What is too far away for any weight may be infinitely far.
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
        Span::in_place(self.weights).reading(self.logits).narrow_numbers(
            isa,
            #[inline(always)]
            |_, z| exp.exp(self.scale.distances(isa, z)),
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
        let logits = block(self.logits, index, S::NEG_INFINITY);
        term(isa, self.scale.distances(isa, S::load_wide(isa, &logits)))
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

/// e^x of one number that is not above 0, and of 0 below -700.
#[inline(always)]
pub fn exp_of<I: Isa>(isa: I, x: f64) -> f64 {
    isa.array_f64(term(isa, isa.f64(x)))[0]
}

/// ln of one number.
#[inline(always)]
pub fn ln_of<I: Isa>(isa: I, x: f64) -> f64 {
    log_scalar(isa, x).0
}
