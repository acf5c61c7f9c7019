//! Distribution over the tokens that the filters kept.

use super::{Draw, Left, LeftLogits, Sampled};
use crate::cpu::elementwise;
use crate::cpu::sample::candidates::Candidate;
use crate::error::Result;
use crate::math::sum::units;
use crate::sampler::{Controller, FromLeft, distance};
use crate::simd::in_default;

impl FromLeft for Distribution {
    const NEEDS_LOG_SUM: bool = true;

    fn from_left(left: Left<'_>) -> Self {
        Distribution {
            vocabulary: left.vocabulary,
            tokens: left.tokens.to_vec(),
            masses: left.weights.iter().map(|&weight| units(weight, left.vocabulary)).collect(),
            logits: match left.logits {
                LeftLogits::F32(logits) => logits.iter().map(|&z| f64::from(z)).collect(),
                LeftLogits::F64(logits) => logits.to_vec(),
            },
            max: left.max,
            inverse: left.inverse,
            log_sum: left.log_sum,
            controller: left.controller,
            probs: left.probs.to_vec(),
        }
    }
}

/// Probability distribution of a row, over the tokens that the filters kept. At least one token is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    vocabulary: usize,
    tokens: Vec<u32>,
    masses: Vec<u64>,
    logits: Vec<f64>,
    /// Largest logit.
    max: f64,
    /// 1 / temperature.
    inverse: f64,
    log_sum: f64,
    controller: Option<Controller>,
    /// Probabilities of the tokens before adaptive-p changed them. Empty without adaptive-p.
    probs: Vec<f64>,
}

impl Distribution {
    /// Placeholder for a row that has not been processed.
    pub(super) const NONE: Distribution = Distribution {
        vocabulary: 0,
        tokens: Vec::new(),
        masses: Vec::new(),
        logits: Vec::new(),
        max: 0.0,
        inverse: 1.0,
        log_sum: 0.0,
        controller: None,
        probs: Vec::new(),
    };

    /// Returns the tokens that can be drawn, in increasing order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the log-probability of each token, in the order of [`Distribution::tokens`].
    pub fn logprobs(&self) -> impl Iterator<Item = f64> + '_ {
        let logprobs = in_default(|| (0..self.tokens.len()).map(|i| self.logprob(i)).collect::<Vec<f64>>());
        logprobs.into_iter()
    }

    /// Returns the probability of every token of the vocabulary, which is 0 for removed tokens.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) if the requested instruction set is unavailable.
    pub fn probs(&self) -> Result<Vec<f64>> {
        let mut kept: Vec<f64> = self.logprobs().collect();
        elementwise::apply_in_place(&mut kept, &elementwise::Exp)?;
        let mut probs = vec![0.0; self.vocabulary];
        for (token, p) in self.tokens.iter().zip(kept) {
            probs[*token as usize] = p;
        }
        Ok(probs)
    }

    /// Returns each token's mass, an integer proportional to its probability, in the order of [`Distribution::tokens`].
    pub(super) fn masses(&self) -> &[u64] {
        &self.masses
    }

    /// Returns the sum of the masses of all tokens, at most 2^63.
    pub(super) fn total(&self) -> u64 {
        self.masses.iter().sum()
    }

    /// Returns the mass of a token, which is 0 if the filters removed it.
    pub(super) fn mass(&self, token: u32) -> u64 {
        self.tokens.binary_search(&token).map_or(0, |i| self.masses[i])
    }

    /// Returns the given token as if it had been drawn. If the filters removed this token, returns a random token of
    /// the distribution.
    pub(super) fn sampled(&self, token: u32, draw: Draw) -> Sampled {
        match self.tokens.binary_search(&token) {
            Ok(i) => self.sampled_at(i),
            Err(_) => self.draw(draw),
        }
    }

    /// Returns the `n` most probable tokens with their log-probabilities, most probable first: in descending order of
    /// logits, and in ascending order of indices among equal logits.
    ///
    /// The list is shorter if fewer tokens were kept. If the [`SamplerConfig`](crate::SamplerConfig) has no filters and
    /// temperature 1, these are the log-probabilities of the unchanged logits.
    pub fn top_logprobs(&self, n: usize) -> Vec<(u32, f64)> {
        // Indices of tokens are u32, so the positions of the kept tokens fit in u32 too.
        let candidate = |(i, &logit): (usize, &f64)| Candidate { logit, token: i as u32 };
        let mut order: Vec<Candidate> = self.logits.iter().enumerate().map(candidate).collect();
        in_default(|| {
            if n < order.len() {
                order.select_nth_unstable_by(n, Candidate::order);
                order.truncate(n);
            }
            order.sort_unstable_by(Candidate::order);
            let positions = order.iter().map(|candidate| candidate.token as usize);
            positions.map(|i| (self.tokens[i], self.logprob(i))).collect()
        })
    }

    /// Draws a token.
    ///
    /// Each token has an integer mass, which is proportional to its probability. The draw's 64 random bits are
    /// multiplied by the total mass and divided by 2^64. The first token whose running sum of masses exceeds the result
    /// is drawn, so a token of mass 0 is never drawn.
    pub fn draw(&self, draw: Draw) -> Sampled {
        let at = draw.below(self.total());
        let mut sum = 0;
        let reached = |mass: &u64| {
            sum += mass;
            sum > at
        };
        let index = self.masses.iter().position(reached).unwrap_or(0);
        in_default(|| self.sampled_at(index))
    }

    fn logprob(&self, index: usize) -> f64 {
        distance(self.logits[index], self.max, self.inverse) - self.log_sum
    }

    fn sampled_at(&self, index: usize) -> Sampled {
        let logprob = self.logprob(index);
        let feedback = Controller::next(self.controller, logprob, self.probs.get(index));
        Sampled { token: self.tokens[index], logprob, kept: self.tokens.len(), feedback }
    }
}
