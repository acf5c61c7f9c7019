//! DRY, "don't repeat yourself": how long a repetition each token would prolong.

use super::Step;
use crate::math::power::{self, Pair};

/// The largest exponent whose power of e f32 holds, as llama.cpp has it.
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

/// What a repetition costs: multiplier * base^exponent, the exponent limited as llama.cpp does.
pub struct Penalty {
    multiplier: f64,
    base: f64,
    /// The largest exponent.
    most: u64,
}

impl Penalty {
    pub fn new(multiplier: f64, base: f64) -> Self {
        // A base that is nearer to 1 has no limit in llama.cpp either.
        let most = if base > 1.000_001 { floor(Pair::from(MOST).over(power::log(base))) } else { u64::MAX };
        Penalty { multiplier, base, most }
    }

    /// Returns the penalty rounded to f64, within 0.501 ULP; infinity where it exceeds f64. Pairs of f64 leave an error of at
    /// most 2^-73 of it before that rounding.
    pub fn of(&self, exponent: usize) -> f64 {
        let power = Pair::from(self.base).to_the(self.most.min(exponent as u64));
        let penalty = Pair::from(self.multiplier).times(power).0;
        if penalty.is_finite() { penalty } else { f64::INFINITY }
    }
}

/// The largest integer that is not above the pair, which is positive.
fn floor(pair: Pair) -> u64 {
    let below = pair.0.floor() == pair.0 && pair.1 < 0.0;
    pair.0 as u64 - u64::from(below)
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
