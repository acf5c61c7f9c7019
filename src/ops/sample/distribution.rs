//! What the filters left of a row.

use super::{Draw, Sampled};
use crate::cpu::elementwise;
use crate::error::Result;
use crate::math::sum::units;
use crate::simd::in_default;

/// What the filters left of a row, as a kernel has it: at least one token.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub vocabulary: usize,
    /// In increasing order.
    pub tokens: &'a [u32],
    pub logits: LeftLogits<'a>,
    /// The terms of rule Q that are a draw's masses.
    pub weights: &'a [f32],
    /// The largest logit.
    pub max: f64,
    /// 1 / temperature.
    pub inverse: f64,
    pub log_sum: f64,
    /// Which one the step's draw takes.
    pub drawn: usize,
}

/// Logits of tokens that are left.
#[derive(Clone, Copy)]
pub enum LeftLogits<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl Left<'_> {
    /// (logit - largest) / temperature.
    fn distance(&self, logit: f64) -> f64 {
        (logit - self.max) * self.inverse
    }

    /// What the step draws.
    pub fn sampled(self) -> Sampled {
        let logit = match self.logits {
            LeftLogits::F32(logits) => f64::from(logits[self.drawn]),
            LeftLogits::F64(logits) => logits[self.drawn],
        };
        let logprob = self.distance(logit) - self.log_sum;
        Sampled { token: self.tokens[self.drawn], logprob, kept: self.tokens.len() }
    }

    pub fn to_distribution(self) -> Distribution {
        Distribution {
            vocabulary: self.vocabulary,
            tokens: self.tokens.to_vec(),
            masses: self.weights.iter().map(|&weight| units(weight, self.vocabulary)).collect(),
            distances: match self.logits {
                LeftLogits::F32(logits) => logits.iter().map(|&z| self.distance(f64::from(z))).collect(),
                LeftLogits::F64(logits) => logits.iter().map(|&z| self.distance(z)).collect(),
            },
            log_sum: self.log_sum,
        }
    }
}

/// What the filters left of a row: at least one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    vocabulary: usize,
    tokens: Vec<u32>,
    masses: Vec<u64>,
    distances: Vec<f64>,
    log_sum: f64,
}

impl Distribution {
    /// What stands where no row was looked at yet.
    pub(super) const NONE: Distribution =
        Distribution { vocabulary: 0, tokens: Vec::new(), masses: Vec::new(), distances: Vec::new(), log_sum: 0.0 };

    /// The tokens that can be drawn, in increasing order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The logarithm of each token's probability, in the order of [`Distribution::tokens`].
    pub fn logprobs(&self) -> impl Iterator<Item = f64> + '_ {
        let logprobs = in_default(|| self.distances.iter().map(|d| d - self.log_sum).collect::<Vec<f64>>());
        logprobs.into_iter()
    }

    /// The probability of every token of the vocabulary, 0 for those that were removed.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend).
    pub fn probs(&self) -> Result<Vec<f64>> {
        let mut kept: Vec<f64> = self.logprobs().collect();
        elementwise::apply_in_place(&mut kept, &elementwise::Exp)?;
        let mut probs = vec![0.0; self.vocabulary];
        for (token, p) in self.tokens.iter().zip(kept) {
            probs[*token as usize] = p;
        }
        Ok(probs)
    }

    /// The integer mass of each token, in the order of [`Distribution::tokens`].
    pub(super) fn masses(&self) -> &[u64] {
        &self.masses
    }

    /// The mass of all tokens, at most 2^63.
    pub(super) fn total(&self) -> u64 {
        self.masses.iter().sum()
    }

    /// The mass of one token; 0 if it was removed.
    pub(super) fn mass(&self, token: u32) -> u64 {
        self.tokens.binary_search(&token).map_or(0, |i| self.masses[i])
    }

    /// The token as if it was drawn; a draw if it was removed.
    pub(super) fn sampled(&self, token: u32, draw: Draw) -> Sampled {
        match self.tokens.binary_search(&token) {
            Ok(i) => Sampled { token, logprob: self.distances[i] - self.log_sum, kept: self.tokens.len() },
            Err(_) => self.draw(draw),
        }
    }

    /// The `n` most probable tokens and the logarithms of their probabilities, the first first; fewer, if fewer were
    /// kept. Of a [`SamplerConfig`](crate::SamplerConfig) without filters and at temperature 1 they are those of the
    /// logits as they came.
    pub fn top_logprobs(&self, n: usize) -> Vec<(u32, f64)> {
        let mut order: Vec<usize> = (0..self.tokens.len()).collect();
        let by_logit = |&a: &usize, &b: &usize| self.distances[b].total_cmp(&self.distances[a]).then(a.cmp(&b));
        if n < order.len() {
            order.select_nth_unstable_by(n, by_logit);
            order.truncate(n);
        }
        order.sort_unstable_by(by_logit);
        in_default(|| order.into_iter().map(|i| (self.tokens[i], self.distances[i] - self.log_sum)).collect())
    }

    /// Draws a token.
    ///
    /// The draw's 64 bits, times the total mass, over 2^64, is a number below the total; the token is the first whose
    /// running sum exceeds it, so a token of mass 0 is never drawn.
    pub fn draw(&self, draw: Draw) -> Sampled {
        let at = draw.below(self.total());
        let mut sum = 0;
        let reached = |mass: &u64| {
            sum += mass;
            sum > at
        };
        let index = self.masses.iter().position(reached).unwrap_or(0);
        let logprob = in_default(|| self.distances[index] - self.log_sum);
        Sampled { token: self.tokens[index], logprob, kept: self.tokens.len() }
    }
}
