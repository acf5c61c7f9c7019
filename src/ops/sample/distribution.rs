//! What the filters left of a row.

use super::{Draw, Sampled};
use crate::error::Result;

/// What the filters left of a row: at least one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    vocabulary: usize,
    tokens: Vec<u32>,
    masses: Vec<u64>,
    total: u64,
    /// (logit - largest) / temperature, each.
    distances: Vec<f64>,
    log_sum: f64,
}

impl Distribution {
    pub(crate) fn new(
        vocabulary: usize,
        tokens: Vec<u32>,
        masses: Vec<u64>,
        distances: Vec<f64>,
        log_sum: f64,
    ) -> Self {
        let total = masses.iter().sum();
        Distribution { vocabulary, tokens, masses, total, distances, log_sum }
    }

    /// Every token alike.
    pub(crate) fn uniform(vocabulary: usize, tokens: Vec<u32>, log_count: f64) -> Self {
        let n = tokens.len();
        Distribution::new(vocabulary, tokens, vec![1; n], vec![0.0; n], log_count)
    }

    /// The tokens that can be drawn, in increasing order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The logarithm of each token's probability, in the order of [`Distribution::tokens`].
    pub fn logprobs(&self) -> impl Iterator<Item = f64> + '_ {
        self.distances.iter().map(|d| d - self.log_sum)
    }

    /// The probability of every token of the vocabulary, 0 for those that were removed.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn probs(&self) -> Result<Vec<f64>> {
        let kept = crate::exp(&self.logprobs().collect::<Vec<f64>>())?;
        let mut probs = vec![0.0; self.vocabulary];
        for (token, p) in self.tokens.iter().zip(kept) {
            probs[*token as usize] = p;
        }
        Ok(probs)
    }

    /// Draws a token.
    ///
    /// The draw's 64 bits, times the total mass, over 2^64, is a number below the total; the token is the first whose
    /// running sum exceeds it, so a token of mass 0 is never drawn.
    pub fn draw(&self, draw: Draw) -> Sampled {
        let at = ((u128::from(draw.bits()) * u128::from(self.total)) >> 64) as u64;
        let mut sum = 0;
        let reached = |mass: &u64| {
            sum += mass;
            sum > at
        };
        let index = self.masses.iter().position(reached).unwrap_or(0);
        Sampled { token: self.tokens[index], logprob: self.distances[index] - self.log_sum, kept: self.tokens.len() }
    }
}
