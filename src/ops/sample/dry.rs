//! DRY, "don't repeat yourself": how long a repetition each token would prolong.

use super::Step;

/// The largest exponent whose power of e f32 holds.
const MOST: f64 = 88.722_839_1;

/// What is found of a sequence's repetitions, in lists that are kept from step to step.
#[derive(Default)]
pub struct Repeats {
    /// The last token first.
    last: Vec<u32>,
    lengths: Vec<usize>,
    found: Vec<(u32, usize)>,
}

impl Repeats {
    /// Tokens that followed an earlier occurrence of the last tokens, so many of these at least, each with the length of
    /// its longest one. No occurrence reaches over a breaker.
    pub fn prolonged(&mut self, step: &Step<'_>, window: Option<usize>, least: usize) -> &[(u32, usize)] {
        let all = step.prompt.len() + step.output.len();
        let count = window.unwrap_or(all).min(all);
        let Repeats { last, lengths, found } = self;
        found.clear();
        last.clear();
        last.extend(step.output.iter().rev().chain(step.prompt.iter().rev()).take(count));
        let limit = last.iter().position(|token| step.breakers.contains(token)).unwrap_or(last.len());
        if last.len() <= least || limit < least {
            return found;
        }
        common_prefixes(last, lengths);
        found.extend(
            (lengths.iter().enumerate().skip(1))
                .map(|(i, &length)| (last[i - 1], length.min(limit)))
                .filter(|(token, length)| *length >= least && !step.breakers.contains(token)),
        );
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        found.dedup_by_key(|(token, _)| *token);
        found
    }
}

/// multiplier * base^exponent, the exponent held to where f32 holds the power, as llama.cpp does.
pub fn penalty(multiplier: f64, base: f64, exponent: usize) -> f64 {
    let most = if base > 1.000_001 { (MOST / base.ln()) as usize } else { usize::MAX };
    multiplier * base.powi(exponent.min(most).min(i32::MAX as usize) as i32)
}

/// For each place how many tokens from there on are those from the start on: the Z-function.
fn common_prefixes(tokens: &[u32], lengths: &mut Vec<usize>) {
    let n = tokens.len();
    lengths.clear();
    lengths.resize(n, 0);
    let (mut left, mut right) = (0, 0);
    for i in 1..n {
        if i < right {
            lengths[i] = lengths[i - left].min(right - i);
        }
        while i + lengths[i] < n && tokens[lengths[i]] == tokens[i + lengths[i]] {
            lengths[i] += 1;
        }
        if i + lengths[i] > right {
            (left, right) = (i, i + lengths[i]);
        }
    }
}
