//! Exchange protocol of a sharded row: chooses the next round, encodes the words to exchange, and merges the words of
//! all ranks.

use super::{Drawn, FEW, SampleFloat, ShardedRow, few_first, is_float};
use crate::cpu::exp_sum::{self, ExpSum, RescaleExponent};
use crate::cpu::sample::scale::Scale;
use crate::cpu::sample::search::{By, Search};
use crate::cpu::sample::top_p::ceil_of_product;
use crate::cpu::sample::{OP, asks_for_total};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::bins::{self, Bins};
use crate::math::keys;
use crate::sampler::Filter;

/// Number of words that a rank contributes to a draw: the integers and bins of an `ExpSum`, one word for the drawn
/// token, and one for its logit.
const SHARE: usize = exp_sum::UNITS + bins::WORDS + 2;
/// A word holds a token in this number of low-order bits, and the 32-bit key of the token's logit in the bits above.
const TOKEN_BITS: u32 = 21;

/// Next round of exchanges for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum NextRound {
    /// Gathers at most this many candidates from each rank.
    First(usize),
    /// Gathers all remaining candidates.
    All,
    /// Draws from the remaining candidates without gathering them.
    Share,
    /// Searches for the last token that the next filter keeps.
    Cut,
}

impl<S: SampleFloat> ShardedRow<'_, S> {
    /// Stores the largest logit, decoded from the max-reduction after [`Task::Survey`]. Rejects a row that has a NaN or
    /// whose largest logit is -inf.
    pub fn take_survey(&mut self, [max, nan]: [u64; 2]) -> Result<()> {
        let (row, vocabulary, max) = (self.row, self.scale.vocabulary, keys::to_f64(max));
        if max.is_nan() {
            return Err(Error::non_finite_input(OP, row, !nan as usize, f64::NAN));
        }
        if max == f64::NEG_INFINITY {
            return Err(Error::EmptySupport { op: OP, row, vocabulary });
        }
        self.scale.max = max;
        Ok(())
    }

    /// Returns whether a filter needs the total mass before filtering.
    pub fn asks_for_total(&self) -> bool {
        asks_for_total(self.filters)
    }

    /// Stores the mass of all tokens. Must be called before a filter removes any token.
    pub fn take_total(&mut self) {
        self.total = self.mass();
    }

    /// Stores the number and mass of each rank's candidates, in the order of the ranks' columns. `own` is the position
    /// of this rank.
    pub fn set_census(&mut self, ranks: Vec<[u64; 2]>, own: usize) {
        let add = |[count, mass]: [u64; 2], [c, m]: &[u64; 2]| [count + c, mass + m];
        self.before = ranks[..own].iter().fold([0; 2], add);
        self.census = Some(ranks);
    }

    /// Returns the number of words in each rank's list of candidates. `widths` holds each rank's number of columns.
    pub fn lens(&self, widths: &[usize]) -> Vec<usize> {
        let count = |rank: &[u64; 2]| rank[0] as usize * Self::WORDS;
        match self.next() {
            NextRound::First(k) => widths.iter().map(|width| k.min(*width) * Self::WORDS).collect(),
            _ => self.census.iter().flatten().map(count).collect(),
        }
    }

    /// Applies temperatures, which need no exchange. Returns whether the next round needs a new census. A census is the
    /// number and the mass of the candidates on each rank.
    pub fn needs_census(&mut self) -> bool {
        while let [Filter::Temperature(temperature), rest @ ..] = self.filters {
            self.filters = rest;
            self.scale = Scale::new(self.scale.max, *temperature, self.scale.vocabulary);
            self.candidates.set_weighed(false);
            self.census = None;
        }
        let goes_by_what_is_left = match self.filters {
            [] | [Filter::TopP { of_all: false, .. } | Filter::Epsilon(_), ..] => true,
            [filter, ..] => is_float(filter),
        };
        self.census.is_none() && few_first(self.filters).is_none() && (self.is_cut || goes_by_what_is_left)
    }

    pub fn next(&self) -> NextRound {
        let is_few = self.is_cut && self.census.is_some() && self.count() <= FEW;
        match self.filters {
            _ if is_few => NextRound::All,
            [] => NextRound::Share,
            [filter, ..] if is_float(filter) => NextRound::All,
            filters => few_first(filters).map_or(NextRound::Cut, NextRound::First),
        }
    }

    /// Starts the searches for the last tokens that the next filter keeps.
    pub fn search(&mut self) {
        let min_keep = self.request.parts().1.min_keep;
        let count = |needed: usize, highest_first, keeps_equals| {
            Search::new::<S>(By::Count, needed as u64, highest_first, keeps_equals)
        };
        let Some((filter, rest)) = self.filters.split_first() else { return };
        self.searches.clear();
        self.least = u64::MAX;
        match *filter {
            Filter::TopK { k, keeps_equals } => self.searches.push(count(k, false, keeps_equals)),
            Filter::TopP { p, highest_first, of_all } => {
                let needed = ceil_of_product(p, if of_all { self.total } else { self.mass() });
                self.searches.push(Search::new::<S>(By::Mass, needed, highest_first, false));
                if min_keep > 1 {
                    self.searches.push(count(min_keep, highest_first, false));
                }
            }
            Filter::MinP(p) => {
                self.least = if p > 1.0 { u64::MAX } else { ceil_of_product(p, self.scale.one()) };
                if min_keep > 1 || p > 1.0 {
                    self.searches.push(count(min_keep, false, false));
                }
            }
            Filter::Epsilon(epsilon) => {
                self.least = ceil_of_product(epsilon, self.mass());
                self.searches.push(count(min_keep, false, true));
            }
            // The other filters run on gathered candidates.
            _ => {}
        }
        self.filters = rest;
    }

    /// Returns the searches that need another histogram.
    pub fn open(&mut self) -> impl Iterator<Item = &mut Search> {
        self.searches.iter_mut().filter(|search| search.is_open())
    }

    /// Returns all searches of the filter. The searches are complete once [`ShardedRow::open`] returns none.
    pub fn found(&mut self) -> &mut [Search] {
        &mut self.searches
    }

    /// Returns the candidates as words to gather.
    ///
    /// The first word of a candidate is never 0, so zeros can pad the list.
    pub fn list(&mut self) -> Vec<u64> {
        if let NextRound::First(k) = self.next() {
            self.candidates.keep_first(k, false);
        }
        let mut words = Vec::with_capacity(self.candidates.len() * Self::WORDS);
        for c in self.candidates.iter() {
            match S::DTYPE {
                DType::F64 => words.extend([keys::of_f64(c.logit), c.token.into()]),
                _ => words.push(u64::from(keys::of_f32(c.logit as f32)) << TOKEN_BITS | u64::from(c.token)),
            }
        }
        words
    }

    /// Replaces the candidates with those of all ranks.
    pub fn take_lists(&mut self, lists: &[&[u64]]) {
        self.candidates.clear();
        for word in lists.iter().flat_map(|list| list.chunks_exact(Self::WORDS)).filter(|word| word[0] != 0) {
            let (token, logit) = match word {
                &[key, token] => (token, keys::to_f64(key)),
                &[word, ..] => (word & ((1 << TOKEN_BITS) - 1), keys::to_f32((word >> TOKEN_BITS) as u32).into()),
                [] => continue,
            };
            self.candidates.push(token as u32, S::from_wide(logit));
        }
    }

    /// Merges the ranks' shares of a draw. Returns whether one of the shares contains the drawn token.
    #[must_use]
    pub fn take_shares<'w>(&mut self, shares: impl Iterator<Item = &'w [u64; SHARE]>) -> bool {
        let (mut sum, mut drawn) = (ExpSum::default(), None);
        for &[first, second, third, ref bins @ .., token, key] in shares {
            sum.merge(ExpSum::of_units::<f64>(
                [first, second, third],
                RescaleExponent::default(),
                self.scale.vocabulary,
            ));
            sum.add_bins(Bins::of_words(*bins));
            if token > 0 {
                drawn = Some((token - 1, key));
            }
        }
        let Some((token, key)) = drawn else { return false };
        self.drawn =
            Drawn { token: token as u32, logit: keys::to_f64(key), rest: sum.above_one(self.scale.vocabulary) };
        true
    }
}
