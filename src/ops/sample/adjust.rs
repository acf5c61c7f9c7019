//! What a step does to logits before any filter: bias, penalties, tokens that are not to come.

use super::dry::{self, Repeats};
use super::profile::Penalties;
use super::{OP, SamplerConfig, Step};
use crate::element::Element;
use crate::error::{Error, Result};

/// A request's changes of a row.
#[derive(Clone, Copy)]
pub struct Adjustments<'a> {
    config: &'a SamplerConfig,
    step: Step<'a>,
}

/// What is found of the tokens so far, in lists that are kept from step to step.
#[derive(Default)]
pub struct History {
    sorted: Vec<u32>,
    repeats: Repeats,
}

impl<'a> Adjustments<'a> {
    /// Nothing if the row is taken as it is.
    pub fn new(config: &'a SamplerConfig, step: Step<'a>) -> Option<Self> {
        let c = config;
        let penalises = c.repetition_penalty != 1.0
            || c.presence_penalty != 0.0
            || c.frequency_penalty != 0.0
            || c.dry_multiplier != 0.0;
        let has_tokens = !(step.prompt.is_empty() && step.output.is_empty());
        let changes = step.allowed.is_some() || !step.bias.is_empty() || !step.bad_words.is_empty();
        (changes || penalises && has_tokens).then_some(Adjustments { config, step })
    }

    /// Changes a row of logits, which the error names.
    pub fn apply<E: Element>(&self, row: usize, logits: &mut [E], history: &mut History) -> Result<()> {
        let known = |argument, token: u32| match logits.len() {
            n if (token as usize) < n => Ok(()),
            n => Err(Error::invalid_in_row(OP, argument, row, token, format!("below {n}, which the vocabulary has"))),
        };
        let Step { prompt, output, bias, bad_words, .. } = self.step;
        bias.iter().try_for_each(|&(token, _)| known("bias", token))?;
        prompt.iter().try_for_each(|&token| known("prompt", token))?;
        output.iter().try_for_each(|&token| known("output", token))?;
        bad_words.iter().flatten().try_for_each(|&token| known("bad_words", token))?;
        for &(token, bias) in bias {
            if bias == f32::NEG_INFINITY {
                logits[token as usize] = E::NEG_INFINITY;
            } else if bias.is_finite() {
                change(logits, token, |z| z + f64::from(bias));
            } else {
                let value = format!("{bias} for token {token}");
                return Err(Error::invalid_in_row(OP, "bias", row, value, "finite or -inf"));
            }
        }
        self.penalise(logits, &mut history.sorted);
        self.break_repetitions(logits, &mut history.repeats);
        for word in bad_words {
            if let Some((last, before)) = word.split_last()
                && self.ends_with(before)
            {
                logits[*last as usize] = E::NEG_INFINITY;
            }
        }
        self.allow(logits)
    }

    fn penalise<E: Element>(&self, logits: &mut [E], sorted: &mut Vec<u32>) {
        let c = self.config;
        let rounded = |v: f64| E::from_wide(v.clamp(-E::LIMITS.max, E::LIMITS.max)).widen();
        let [repetition, presence, frequency] =
            [c.repetition_penalty, c.presence_penalty, c.frequency_penalty].map(rounded);
        if c.profile.rules().penalties == Penalties::OfAll {
            for (token, count) in self.counts(true, sorted) {
                repeat(logits, token, repetition);
                let off = rounded(rounded(count * frequency) + presence);
                change(logits, token, |z| z - off);
            }
            return;
        }
        if repetition != 1.0 {
            self.counts(true, sorted).for_each(|(token, _)| repeat(logits, token, repetition));
        }
        if presence != 0.0 || frequency != 0.0 {
            for (token, count) in self.counts(false, sorted) {
                let off = rounded(count * frequency);
                change(logits, token, |z| z - off);
                change(logits, token, |z| z - presence);
            }
        }
    }

    /// How often each token of the window is there, with the prompt's or without.
    fn counts<'s>(&self, with_prompt: bool, sorted: &'s mut Vec<u32>) -> impl Iterator<Item = (u32, f64)> + use<'s> {
        let Step { prompt, output, .. } = self.step;
        let window = self.config.penalty_window.unwrap_or(usize::MAX);
        let of_output = &output[output.len().saturating_sub(window)..];
        let of_prompt = &prompt[prompt.len().saturating_sub(window - of_output.len())..];
        sorted.clear();
        sorted.extend(of_output);
        if with_prompt {
            sorted.extend(of_prompt);
        }
        sorted.sort_unstable();
        sorted.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as f64))
    }

    /// DRY: tokens that went on from where the sequence is now, the last time or any before.
    fn break_repetitions<E: Element>(&self, logits: &mut [E], repeats: &mut Repeats) {
        let c = self.config;
        if c.dry_multiplier == 0.0 {
            return;
        }
        for &(token, length) in repeats.prolonged(&self.step, c.dry_window, c.dry_allowed_length) {
            let penalty = dry::penalty(c.dry_multiplier, c.dry_base, length - c.dry_allowed_length);
            let penalty = E::from_wide(penalty.min(E::LIMITS.max)).widen();
            change(logits, token, |z| z - penalty);
        }
    }

    /// Whether these are the last tokens.
    fn ends_with(&self, tokens: &[u32]) -> bool {
        let Step { prompt, output, .. } = self.step;
        let prompt = if self.config.profile.rules().bad_words_of_output { &[] } else { prompt };
        let last = prompt.iter().chain(output).rev();
        tokens.len() <= prompt.len() + output.len() && tokens.iter().rev().zip(last).all(|(a, b)| a == b)
    }

    fn allow<E: Element>(&self, logits: &mut [E]) -> Result<()> {
        let Some(words) = self.step.allowed else { return Ok(()) };
        let needed = logits.len().div_ceil(32);
        if words.len() < needed {
            let expected = format!("{needed} for {} tokens", logits.len());
            return Err(Error::shape(OP, "allowed", format!("{} words", words.len()), expected));
        }
        for (logits, word) in logits.chunks_mut(32).zip(words) {
            for (i, z) in logits.iter_mut().enumerate() {
                *z = if word >> i & 1 == 0 { E::NEG_INFINITY } else { *z };
            }
        }
        Ok(())
    }
}

/// An operation on a logit, rounded, that leaves infinities and NaN alone: a finite logit stays one.
fn change<E: Element>(logits: &mut [E], token: u32, f: impl FnOnce(f64) -> f64) {
    let z = &mut logits[token as usize];
    let was = z.widen();
    if was.is_finite() {
        let limit = E::LIMITS.max;
        *z = E::from_wide(f(was).clamp(-limit, limit));
    }
}

fn repeat<E: Element>(logits: &mut [E], token: u32, penalty: f64) {
    change(logits, token, |z| if z > 0.0 { z / penalty } else { z * penalty });
}
