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
    /// [`Error::Backend`](crate::Error::Backend).
    pub fn probs(&self) -> Result<Vec<f64>> {
        let kept = crate::exp(&self.logprobs().collect::<Vec<f64>>())?;
        let mut probs = vec![0.0; self.vocabulary];
        for (token, p) in self.tokens.iter().zip(kept) {
            probs[*token as usize] = p;
        }
        Ok(probs)
    }

    /// What share of the mass each token has, in the order of [`Distribution::tokens`].
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let total = self.masses.iter().sum::<u64>() as f64;
        self.masses.iter().map(move |&mass| mass as f64 / total)
    }

    /// The same of one token; 0 if it was removed.
    pub(super) fn share(&self, token: u32) -> f64 {
        let total = self.masses.iter().sum::<u64>() as f64;
        self.tokens.binary_search(&token).map_or(0.0, |i| self.masses[i] as f64 / total)
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
        order.into_iter().map(|i| (self.tokens[i], self.distances[i] - self.log_sum)).collect()
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
