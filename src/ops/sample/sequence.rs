//! Sampling of a sequence, token by token.

use super::{Draw, Sampled, Sampler, Step};
use crate::element::Element;
use crate::error::Result;

/// Sequence that is being sampled: a sampler, a seed, and the tokens so far.
///
/// The n-th output token depends only on the sampler, the seed, the row, n, the logits, the tokens so far, and the
/// sequence's biases, bad words, breakers and allowed tokens. With mirostat or adaptive-p, it also depends on the last
/// [`Sampled::feedback`], which [`Sequence::truncate`] restores. So sampling again after `truncate` gives the same
/// tokens.
///
/// ```
/// use evenkeel::SamplerConfig;
/// let sampler = SamplerConfig::default().temperature(0.0).repetition_penalty(1.5).validate()?;
/// let mut sequence = sampler.sequence(42, &[0]);
/// // The penalty applies to token 0, which is in the prompt, and after the first step to token 1 as well.
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
    /// Number of prompt tokens, which come first in `tokens`.
    given: usize,
    bias: Vec<(u32, f32)>,
    bad_words: Vec<Vec<u32>>,
    breakers: Vec<u32>,
    /// [`Sampled::feedback`] after each token of the output, if the sampler has mirostat or adaptive-p.
    feedback: Vec<f64>,
}

impl Sampler {
    /// Returns a sequence that begins with the tokens of `prompt`.
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
            feedback: Vec::new(),
        }
    }
}

impl Sequence {
    /// Sets the row, which distinguishes sequences with the same seed; 0 by default. See [`Draw::row`].
    pub fn row(self, row: u64) -> Self {
        Self { row, ..self }
    }

    /// Sets [`Step::bias`] for all steps.
    pub fn bias(self, bias: Vec<(u32, f32)>) -> Self {
        Self { bias, ..self }
    }

    /// Sets [`Step::bad_words`] for all steps.
    pub fn bad_words(self, bad_words: Vec<Vec<u32>>) -> Self {
        Self { bad_words, ..self }
    }

    /// Sets [`Step::breakers`] for all steps.
    pub fn breakers(self, breakers: Vec<u32>) -> Self {
        Self { breakers, ..self }
    }

    /// Returns the tokens of the prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.given]
    }

    /// Returns the tokens sampled or accepted after the prompt.
    pub fn output(&self) -> &[u32] {
        &self.tokens[self.given..]
    }

    /// Returns the next step of the sequence. Pass it to a function that samples a batch, or to
    /// [`Sampler::distribution`].
    ///
    /// `allowed` is the bit mask of [`Step::allowed`]; `None` allows all tokens.
    pub fn step<'a>(&'a self, allowed: Option<&'a [u32]>) -> Step<'a> {
        let draw = Draw { seed: self.seed, row: self.row, draw: self.output().len() as u64 };
        let step = Step::from(draw).prompt(self.prompt()).output(self.output());
        let step = step.bias(&self.bias).bad_words(&self.bad_words).breakers(&self.breakers);
        let step = self.feedback.last().map_or(step, |value| step.feedback(*value));
        allowed.map_or(step, |words| step.allowed(words))
    }

    /// Draws the next token and appends it. After an error nothing is appended. `allowed` is the bit mask of
    /// [`Step::allowed`]; `None` allows all tokens.
    ///
    /// # Errors
    /// The errors of [`Sampler::sample`], which also checks the tokens of the prompt and of [`Sequence::accept`].
    pub fn sample<E: Element>(&mut self, logits: &[E], allowed: Option<&[u32]>) -> Result<Sampled> {
        let sampled = self.sampler.sample(logits, self.step(allowed))?;
        self.accept_sampled(&sampled);
        Ok(sampled)
    }

    /// Appends a token that was sampled elsewhere: in a batch, by [`Distribution::draw`](super::Distribution::draw), or
    /// by [`Distribution::verify`](super::Distribution::verify).
    pub fn accept_sampled(&mut self, sampled: &Sampled) {
        self.accept(sampled.token);
        if let Some(value) = self.feedback.last_mut() {
            *value = sampled.feedback;
        }
    }

    /// Appends a token that was not sampled. The feedback of mirostat and adaptive-p does not change.
    pub fn accept(&mut self, token: u32) {
        self.tokens.push(token);
        if let Some(feedback) = self.sampler.feedback() {
            self.feedback.push(self.feedback.last().copied().unwrap_or_else(|| feedback.first()));
        }
    }

    /// Keeps the first `output` tokens of the output, and removes the later ones. A shorter output does not change.
    pub fn truncate(&mut self, output: usize) {
        self.tokens.truncate(self.given.saturating_add(output));
        self.feedback.truncate(output);
    }
}
