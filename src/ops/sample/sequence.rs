//! A sequence that is being drawn.

use super::{Draw, Sampled, Sampler, Step};
use crate::element::Element;
use crate::error::Result;

/// A sequence that is being drawn: a sampler with a seed and the tokens so far.
///
/// Its n-th token depends on the seed, the row, n, its tokens and its logits, and on nothing else: tokens that were
/// taken back and are drawn again come out the same.
///
/// ```
/// use evenkeel::SamplerConfig;
/// let sampler = SamplerConfig::default().temperature(0.0).repetition_penalty(1.5).validate()?;
/// let mut sequence = sampler.sequence(42, &[0]);
/// // Token 0 is in the prompt, and 1 after the first step.
/// assert_eq!(sequence.sample(&[3.0f32, 2.5, 2.25], None)?.token, 1);
/// assert_eq!(sequence.sample(&[3.0f32, 2.5, 2.25], None)?.token, 2);
/// assert_eq!(sequence.output(), [1, 2]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    sampler: Sampler,
    seed: u64,
    row: u64,
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    given: usize,
    bias: Vec<(u32, f32)>,
    bad_words: Vec<Vec<u32>>,
    breakers: Vec<u32>,
}

impl Sampler {
    /// A sequence that begins with these tokens.
    pub fn sequence(&self, seed: u64, prompt: &[u32]) -> Sequence {
        Sequence {
            sampler: self.clone(),
            seed,
            row: 0,
            tokens: prompt.to_vec(),
            given: prompt.len(),
            bias: Vec::new(),
            bad_words: Vec::new(),
            breakers: Vec::new(),
        }
    }
}

impl Sequence {
    /// Tells sequences of one seed apart; 0 unless it is set. See [`Draw::row`].
    pub fn row(self, row: u64) -> Self {
        Self { row, ..self }
    }

    /// See [`Step::bias`].
    pub fn bias(self, bias: Vec<(u32, f32)>) -> Self {
        Self { bias, ..self }
    }

    /// See [`Step::bad_words`].
    pub fn bad_words(self, bad_words: Vec<Vec<u32>>) -> Self {
        Self { bad_words, ..self }
    }

    /// See [`Step::breakers`].
    pub fn breakers(self, breakers: Vec<u32>) -> Self {
        Self { breakers, ..self }
    }

    /// The tokens that were given.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.given]
    }

    /// The tokens that were drawn or accepted since.
    pub fn output(&self) -> &[u32] {
        &self.tokens[self.given..]
    }

    /// The step that comes next: for batches, and for what the sampler may draw.
    ///
    /// `allowed` is as in [`Step::allowed`].
    pub fn step<'a>(&'a self, allowed: Option<&'a [u32]>) -> Step<'a> {
        let draw = Draw { seed: self.seed, row: self.row, draw: self.output().len() as u64 };
        let step = Step::from(draw).prompt(self.prompt()).output(self.output());
        let step = step.bias(&self.bias).bad_words(&self.bad_words).breakers(&self.breakers);
        match allowed {
            Some(words) => step.allowed(words),
            None => step,
        }
    }

    /// Draws the next token and appends it; nothing is appended where it is refused.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn sample<E: Element>(&mut self, logits: &[E], allowed: Option<&[u32]>) -> Result<Sampled> {
        let sampled = self.sampler.sample(logits, self.step(allowed))?;
        self.accept(sampled.token);
        Ok(sampled)
    }

    /// Appends a token that came from elsewhere: one of a batch, a forced one, one of a draft that was accepted.
    pub fn accept(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// Takes back all but the first so many tokens of the output.
    pub fn truncate(&mut self, output: usize) {
        self.tokens.truncate(self.given.saturating_add(output));
    }
}
