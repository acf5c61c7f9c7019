//! The filters that depend on the tokens drawn before: mirostat and adaptive-p.

use super::Sampling;
use super::candidates::{Candidate, Candidates};
use super::filters::{DrawnCandidate, Filtering};
use super::scale::{Scale, exp_of, ln_of};
use super::top_p::ceil_of_product;
use crate::element::Element;
use crate::math::exp::term;
use crate::math::expm1::expm1_below_zero;
use crate::sampler::{Controller, Draw, Feedback};
use crate::simd::{Float, Isa, Kernel, Span};
use std::f64::consts::LN_2;

/// Number of top tokens from which mirostat estimates the exponent of the distribution.
const TOKENS_OF_ESTIMATE: usize = 100;
/// Upper limit of the estimated exponent. At this limit, mirostat keeps one token for any vocabulary size and mu.
const MOST_EXPONENT: f64 = 1e100;

impl<S: Element> Filtering<'_, S> {
    /// Applies mirostat. Does nothing with adaptive-p.
    #[inline(always)]
    pub fn apply_mirostat<I: Isa>(&mut self, isa: I, controller: Controller) {
        let mu = controller.value;
        match controller.feedback {
            Feedback::MirostatTopK { .. } => {
                let first = self.candidates.first_in_order(TOKENS_OF_ESTIMATE);
                let k = isa.outline(MirostatK { first, scale: self.scale, mu });
                self.candidates.keep_first(k, false);
            }
            Feedback::MirostatSurprise { .. } => {
                self.weigh(isa);
                // Let `whole` be the integer part of mu. The factor 2^-whole is exact. So if mu is an integer, a token
                // whose surprise is exactly mu is kept.
                let whole = mu.clamp(0.0, 1000.0).floor();
                let power = f64::from_bits((1023 - whole as u64) << 52);
                let probability = power * exp_of(isa, -(mu.max(0.0) - whole) * LN_2);
                // The probability may underflow to 0. Tokens whose mass is 0 are removed even then.
                self.keep_masses(ceil_of_product(probability, self.mass(isa)).max(1));
            }
            Feedback::AdaptiveP { .. } => {}
        }
    }
}

/// Computes the number k of tokens that mirostat keeps. `first` has the candidates with the largest logits, in
/// descending order of logits.
struct MirostatK<'a> {
    first: &'a [Candidate],
    scale: Scale,
    mu: f64,
}

impl Kernel for MirostatK<'_> {
    type Out = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let MirostatK { first, scale, mu } = self;
        // Estimates s by least squares, assuming that the probability of the i-th token is proportional to i^-s.
        let (mut products, mut squares) = (0.0, 0.0);
        for (i, pair) in first.windows(2).enumerate() {
            let t = ln_of(isa, (i + 2) as f64 / (i + 1) as f64);
            let [a, b] = [pair[0], pair[1]].map(|c| scale.distance(c.logit).max(f64::MIN));
            let b = (a - b).min(f64::MAX);
            products += t * b;
            squares += t * t;
        }
        if first.len() < 2 {
            return 1;
        }
        let s = (products / squares).min(MOST_EXPONENT);
        // `k^s = 2^mu / q`, where `q = (1 - n^(1 - s)) / (s - 1)`. First, q is computed with `|s - 1|` in place of
        // `s - 1`. If s < 1, the true q is larger by the factor `n^(1 - s)`.
        let n = scale.vocabulary as f64;
        let ln_n = ln_of(isa, n);
        let x = (s - 1.0) * ln_n;
        let (hi, lo) = expm1_below_zero(isa, isa.f64(-x.abs().min(40.0)));
        let quotient = if x == 0.0 { 1.0 } else { -isa.array_f64(hi + lo)[0] / x.abs() };
        let ln_quotient = ln_of(isa, quotient * ln_n) + (-x).max(0.0);
        let ln_k = (mu * LN_2 - ln_quotient) / s;
        if ln_k < ln_n { ((n * exp_of(isa, ln_k - ln_n)) as usize).max(1) } else { usize::MAX }
    }
}

impl Sampling {
    /// Stores the probabilities of the candidates, replaces the candidates' logits by the logits of adaptive-p, and
    /// draws again.
    #[inline(always)]
    pub fn apply_adaptive_p<I: Isa>(
        &mut self,
        isa: I,
        (target, mean): (f64, f64),
        found: &DrawnCandidate,
        draw: Draw,
    ) -> DrawnCandidate {
        let Sampling { narrow, wide, is_wide, probs, .. } = self;
        if !*is_wide {
            wide.clear();
            wide.append_all(narrow);
            *is_wide = true;
        }
        isa.outline(AdaptiveP { target: (2.0 * target.clamp(0.0, 1.0) - mean).clamp(0.0, 1.0), found, wide, probs });
        let scale = Scale::new(wide.max(), 1.0, found.scale.vocabulary);
        let filtering = Filtering {
            filters: &[],
            min_keep: 1,
            controller: None,
            needs_log_sum: true,
            draw,
            total: 0,
            candidates: wide,
            scale,
            scraps: &mut self.scraps,
        };
        DrawnCandidate { controller: found.controller, ..isa.outline(filtering) }
    }
}

struct AdaptiveP<'a> {
    target: f64,
    found: &'a DrawnCandidate,
    wide: &'a mut Candidates<f64>,
    probs: &'a mut Vec<f64>,
}

impl Kernel for AdaptiveP<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        /// If a probability is this far from the target, its new logit is 5 below the largest new logit.
        const WIDTH: f64 = 0.3;
        const LARGEST: f64 = 5.0;
        const SHARPNESS: f64 = 10.0;
        let AdaptiveP { target, found: &DrawnCandidate { scale, log_sum, .. }, wide, probs } = self;
        let logits = wide.logits_mut();
        probs.clear();
        probs.extend_from_slice(logits);
        Span::in_place(&mut probs[..]).map(
            isa,
            #[inline(always)]
            |_, z: I::F64| term(isa, scale.distances(isa, z) - isa.f64(log_sum)),
        );
        logits.copy_from_slice(probs);
        Span::in_place(logits).map(
            isa,
            #[inline(always)]
            |_, p: I::F64| {
                let d = (p - isa.f64(target)).abs() / isa.f64(WIDTH);
                isa.f64(LARGEST) - isa.f64(SHARPNESS) * (d * d) / (isa.f64(1.0) + d)
            },
        );
        wide.set_weighed(false);
    }
}
