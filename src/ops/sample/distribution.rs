//! What the filters left of a row.

use super::{Draw, Sampled};
use crate::error::Result;

/// What the filters left of a row, as a kernel has it: at least one token.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub vocabulary: usize,
    /// In increasing order.
    pub tokens: &'a [u32],
    pub masses: &'a [u64],
    /// (logit - largest) / temperature, each.
    pub distances: &'a [f64],
    pub log_sum: f64,
}

impl Left<'_> {
    /// See [`Distribution::draw`].
    pub fn draw(self, draw: Draw) -> Sampled {
        const RUN: usize = 256;
        let total: u64 = self.masses.iter().sum();
        let at = ((u128::from(draw.bits()) * u128::from(total)) >> 64) as u64;
        let (mut index, mut sum) = (0, 0u64);
        for run in self.masses.chunks(RUN) {
            let of_run: u64 = run.iter().sum();
            if sum + of_run > at {
                break;
            }
            sum += of_run;
            index += run.len();
        }
        let reached = |mass: &u64| {
            sum += mass;
            sum > at
        };
        index += self.masses[index..].iter().position(reached).unwrap_or(0);
        Sampled { token: self.tokens[index], logprob: self.distances[index] - self.log_sum, kept: self.tokens.len() }
    }

    pub fn to_distribution(self) -> Distribution {
        Distribution {
            vocabulary: self.vocabulary,
            tokens: self.tokens.to_vec(),
            masses: self.masses.to_vec(),
            distances: self.distances.to_vec(),
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
        let Distribution { vocabulary, tokens, masses, distances, log_sum } = self;
        Left { vocabulary: *vocabulary, tokens, masses, distances, log_sum: *log_sum }.draw(draw)
    }
}
