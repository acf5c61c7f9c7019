//! DRY ("don't repeat yourself"): the length of the repetition that each token would prolong, and the penalty of this
//! token.

use super::Step;
use crate::math::power::{self, Pair};
use crate::simd::allocated;

/// Largest x for which e^x is finite in f32, with the digits that llama.cpp uses.
const MOST: f64 = 88.722_839_1;

/// Buffers for the search for repetitions in a sequence, reused from step to step.
#[derive(Default)]
pub struct Repeats {
    /// Tokens of the window, last token first.
    last: Vec<u32>,
    lengths: Vec<usize>,
    found: Vec<(u32, usize)>,
}

allocated! {
    Repeats { last, lengths, found }
}

impl Repeats {
    /// Returns the tokens that would prolong a repetition, each with the length of the longest repetition that it would
    /// prolong. Repetitions of fewer than `least` tokens do not count.
    ///
    /// A repetition is an earlier occurrence of the sequence's last tokens. The token after that occurrence would
    /// prolong the repetition. Repetitions do not extend across the step's breakers, and breakers themselves are not
    /// returned.
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

/// Penalty of a repetition: multiplier * base^exponent, with the exponent limited as in llama.cpp.
pub struct Penalty {
    multiplier: f64,
    base: f64,
    /// Largest exponent.
    most: u64,
}

impl Penalty {
    pub fn new(multiplier: f64, base: f64) -> Self {
        // As in llama.cpp, the exponent has no limit for bases of at most 1.000001.
        let most = if base > 1.000_001 { floor(Pair::from(MOST).over(power::log(base))) } else { u64::MAX };
        Penalty { multiplier, base, most }
    }

    /// Returns the penalty as f64, within 0.501 ULP, or infinity if it exceeds the range of f64. Powers are computed as
    /// sums of two f64, so the relative error before the final rounding is at most 2^-73.
    pub fn of(&self, exponent: usize) -> f64 {
        let power = Pair::from(self.base).to_the(self.most.min(exponent as u64));
        let penalty = Pair::from(self.multiplier).times(power).0;
        if penalty.is_finite() { penalty } else { f64::INFINITY }
    }
}

/// Returns the floor of a positive number, given as the sum of two f64.
fn floor(pair: Pair) -> u64 {
    let below = pair.0.floor() == pair.0 && pair.1 < 0.0;
    pair.0 as u64 - u64::from(below)
}

/// Computes the Z-function: for each position i above 0, the length of the longest common prefix of the list and the
/// list's suffix that begins at i.
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
