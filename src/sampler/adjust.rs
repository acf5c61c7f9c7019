//! Changes of the logits before the filters: bias, penalties, bad words and allowed tokens.

use super::dry::{Penalty, Repeats};
use super::profile::Penalties;
use super::{OP, SamplerConfig, Step};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::simd::allocated;

/// Changes that a request makes to a row of logits.
#[derive(Clone, Copy)]
pub struct Adjustments<'a> {
    config: &'a SamplerConfig,
    step: Step<'a>,
}

/// Buffers for statistics of the previous tokens, reused from step to step.
#[derive(Default)]
pub struct History {
    sorted: Vec<u32>,
    repeats: Repeats,
}

allocated! {
    History { sorted, repeats }
}

/// Logits of a row, or of a shard of contiguous tokens. Changes to tokens outside the shard are ignored.
pub struct LogitSliceMut<'a, E> {
    pub logits: &'a mut [E],
    /// Token of the first logit.
    pub first: usize,
    /// Number of tokens of the vocabulary.
    pub all: usize,
}

impl<'a, E: Element> LogitSliceMut<'a, E> {
    pub fn whole(logits: &'a mut [E]) -> Self {
        LogitSliceMut { first: 0, all: logits.len(), logits }
    }

    fn logit(&mut self, token: u32) -> Option<&mut E> {
        self.logits.get_mut((token as usize).checked_sub(self.first)?)
    }

    fn forbid(&mut self, token: u32) {
        if let Some(z) = self.logit(token) {
            *z = E::NEG_INFINITY;
        }
    }

    /// Applies `f` to a finite logit. The result is clamped to the finite range and rounded. Infinities and NaN stay
    /// unchanged.
    fn change(&mut self, token: u32, f: impl FnOnce(f64) -> f64) {
        let Some(z) = self.logit(token) else { return };
        let was = z.widen();
        if was.is_finite() {
            let limit = E::LIMITS.max;
            *z = E::from_wide(f(was).clamp(-limit, limit));
        }
    }

    fn repeat(&mut self, token: u32, penalty: f64) {
        self.change(token, |z| if z > 0.0 { z / penalty } else { z * penalty });
    }
}

impl<'a> Adjustments<'a> {
    /// Returns the adjustments of a step, or `None` if they leave the row unchanged.
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

    /// Changes the logits of a row. `row` is the row's index, for error messages.
    pub fn apply<E: Element>(&self, row: usize, mut part: LogitSliceMut<'_, E>, history: &mut History) -> Result<()> {
        let known = |argument, token: u32| match part.all {
            n if (token as usize) < n => Ok(()),
            n => {
                let (value, expected) =
                    (format!("a list with token {token}"), format!("a list of tokens below {n}, the vocabulary size"));
                Err(Error::invalid_in_row(OP, argument, row, value, expected))
            }
        };
        let Step { prompt, output, bias, bad_words, .. } = self.step;
        bias.iter().try_for_each(|&(token, _)| known("bias", token))?;
        prompt.iter().try_for_each(|&token| known("prompt", token))?;
        output.iter().try_for_each(|&token| known("output", token))?;
        bad_words.iter().flatten().try_for_each(|&token| known("bad_words", token))?;
        for &(token, bias) in bias {
            if bias == f32::NEG_INFINITY {
                part.forbid(token);
            } else if bias.is_finite() {
                part.change(token, |z| z + f64::from(bias));
            } else {
                let value = format!("{bias} for token {token}");
                return Err(Error::invalid_in_row(OP, "bias", row, value, "finite or -inf"));
            }
        }
        self.penalise(&mut part, &mut history.sorted);
        self.break_repetitions(&mut part, &mut history.repeats);
        for word in bad_words {
            if let Some((last, before)) = word.split_last()
                && self.ends_with(before)
            {
                part.forbid(*last);
            }
        }
        self.allow(part)
    }

    fn penalise<E: Element>(&self, part: &mut LogitSliceMut<'_, E>, sorted: &mut Vec<u32>) {
        let c = self.config;
        let rounded = |v: f64| E::from_wide(v.clamp(-E::LIMITS.max, E::LIMITS.max)).widen();
        let [repetition, presence, frequency] =
            [c.repetition_penalty, c.presence_penalty, c.frequency_penalty].map(rounded);
        if c.profile.rules().penalties == Penalties::OfAll {
            for (token, count) in self.counts(true, sorted) {
                part.repeat(token, repetition);
                let off = rounded(rounded(count * frequency) + presence);
                part.change(token, |z| z - off);
            }
            return;
        }
        if repetition != 1.0 {
            self.counts(true, sorted).for_each(|(token, _)| part.repeat(token, repetition));
        }
        if presence != 0.0 || frequency != 0.0 {
            for (token, count) in self.counts(false, sorted) {
                let off = rounded(count * frequency);
                part.change(token, |z| z - off);
                part.change(token, |z| z - presence);
            }
        }
    }

    /// Returns each distinct token of the penalty window with its number of occurrences. The window consists of the
    /// last tokens of prompt and output together. The prompt tokens in the window are counted only if `with_prompt` is
    /// set.
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

    /// Applies DRY. If the last tokens also occur earlier in the sequence, DRY penalises the token that follows the
    /// earlier occurrence.
    fn break_repetitions<E: Element>(&self, part: &mut LogitSliceMut<'_, E>, repeats: &mut Repeats) {
        let c = self.config;
        if c.dry_multiplier == 0.0 || c.dry_base < 1.0 {
            return;
        }
        let prolonged = repeats.prolonged(&self.step, c.dry_window, c.dry_allowed_length);
        if prolonged.is_empty() {
            return;
        }
        let penalty = Penalty::new(c.dry_multiplier, c.dry_base);
        for &(token, length) in prolonged {
            let penalty = penalty.of(length - c.dry_allowed_length);
            let penalty = E::from_wide(penalty.min(E::LIMITS.max)).widen();
            part.change(token, |z| z - penalty);
        }
    }

    /// Returns whether the sequence ends with these tokens.
    fn ends_with(&self, tokens: &[u32]) -> bool {
        let Step { prompt, output, .. } = self.step;
        let prompt = if self.config.profile.rules().bad_words_of_output { &[] } else { prompt };
        let last = prompt.iter().chain(output).rev();
        tokens.len() <= prompt.len() + output.len() && tokens.iter().rev().zip(last).all(|(a, b)| a == b)
    }

    fn allow<E: Element>(&self, part: LogitSliceMut<'_, E>) -> Result<()> {
        let Some(words) = self.step.allowed else { return Ok(()) };
        let LogitSliceMut { logits, first, all } = part;
        let needed = all.div_ceil(32);
        if words.len() < needed {
            let expected = format!("{needed} words for {all} tokens");
            return Err(Error::shape(OP, "allowed", format!("{} words", words.len()), expected));
        }
        let keep = |logits: &mut [E], word: u32| {
            for (i, z) in logits.iter_mut().enumerate() {
                *z = if word >> i & 1 == 0 { E::NEG_INFINITY } else { *z };
            }
        };
        // Each word of the mask covers 32 tokens. The logits before the first word boundary are handled here, and all
        // later logits in blocks of 32.
        let lead = (first.next_multiple_of(32) - first).min(logits.len());
        let (head, rest) = logits.split_at_mut(lead);
        if !head.is_empty() {
            keep(head, words[first / 32] >> (first % 32));
        }
        rest.chunks_mut(32)
            .zip(&words[(first + lead).div_ceil(32).min(words.len())..])
            .for_each(|(z, word)| keep(z, *word));
        Ok(())
    }
}
