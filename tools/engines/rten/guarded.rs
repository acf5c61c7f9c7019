//! New module of rten-generate: Evenkeel's sampler for rten's [`Logits`].

use crate::Logits;
use crate::generator::TokenId;
use evenkeel::{Error, Sampler, SamplerConfig, Sequence};

/// Random draws for one request.
pub struct Request(Sequence);

impl Request {
    pub fn new(seed: u64) -> Self {
        Request(sampler(1.0).sequence(seed, &[]))
    }

    /// Draws a token at random, according to the probabilities of the tokens.
    pub fn draw(&mut self, logits: &Logits) -> Result<TokenId, Error> {
        // The sampler returns an index into the list of logits that the filters kept, not a token.
        let sampled = self.0.sample(logits.logits(), None)?;
        Ok(logits.indices()[sampled.token as usize])
    }
}

/// Returns the most probable token.
pub fn greedy(logits: &Logits) -> Result<TokenId, Error> {
    let sampled = sampler(0.0).sample(logits.logits(), evenkeel::Step::default())?;
    Ok(logits.indices()[sampled.token as usize])
}

/// Keeps only the most probable token. If the sampler refuses the logits, returns them unchanged. The sampler then
/// refuses them again when it draws.
pub fn most_probable(logits: Logits) -> Logits {
    match greedy(&logits) {
        Ok(token) => Logits::sparse(vec![0.0], vec![token]),
        Err(_) => logits,
    }
}

fn sampler(temperature: f64) -> Sampler {
    let config = SamplerConfig::default().temperature(temperature).logprob(false);
    config.validate().expect("the temperatures 0 and 1 must be valid")
}
