//! Search for the end of a prefix of the sorted tokens, for a vocabulary that is sharded across ranks.
//!
//! The search is by radix: each round finds the next digit of the last token's key from a histogram, which is summed
//! over all ranks.

use super::candidates::Candidate;
use crate::element::{DType, Element};
use crate::math::keys;

/// Number of key bits that one round finds.
const DIGIT: u32 = 8;
/// Number of words in a histogram.
pub const BUCKETS: usize = 1 << DIGIT;

/// Measure of a prefix: its number of tokens or its mass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    Count,
    Mass,
}

/// Token of this rank that may be the last of the prefix.
struct Place {
    key: u64,
    /// 1 for [`By::Count`], the token's mass for [`By::Mass`].
    amount: u64,
    token: u32,
}

/// Search for the shortest prefix whose count or mass reaches a bound. Tokens are in descending order of logits.
pub struct Search {
    pub by: By,
    /// Remaining bound. Tokens whose leading key bits exceed the known bits are in the prefix, and their count or mass
    /// has been subtracted from the bound.
    needed: u64,
    /// Whether the highest index comes first among equal logits.
    highest_first: bool,
    /// Whether the prefix includes all tokens with the same logit as its last token.
    keeps_equals: bool,
    /// Number of unknown low-order bits of the key.
    unknown: u32,
    /// Known high-order bits of the last token's key.
    key: u64,
    /// Tokens of this rank whose keys have the known bits, in order of index.
    places: Vec<Place>,
    /// Whether the prefix consists of all tokens, because their total does not reach the bound.
    is_all: bool,
    /// Last tie of this rank in the prefix; `None` if the prefix contains no tie of this rank. A tie is a token with
    /// the same logit as the prefix's last token.
    ///
    /// If the highest index comes first, the prefix contains the ties with this index and above. Otherwise it contains
    /// the ties with this index and below.
    last: Option<u32>,
}

/// Returns an integer key. Keys have the same order as their logits. Both zeros have the same key.
pub fn key<S: Element>(logit: f64) -> u64 {
    // Adding 0 turns -0 into 0.
    match S::DTYPE {
        DType::F64 => keys::of_f64(logit + 0.0),
        _ => keys::of_f32(logit as f32 + 0.0).into(),
    }
}

/// Returns the number of bits in a key.
fn bits<S: Element>() -> u32 {
    if S::IS_F64 { u64::BITS } else { u32::BITS }
}

impl Search {
    pub fn new<S: Element>(by: By, needed: u64, highest_first: bool, keeps_equals: bool) -> Self {
        let unknown = bits::<S>();
        let (places, is_all, last) = (Vec::new(), false, None);
        Search { by, needed, highest_first, keeps_equals, unknown, key: 0, places, is_all, last }
    }

    /// Returns whether the search needs another histogram.
    pub fn is_open(&self) -> bool {
        self.unknown > 0 && !self.is_all
    }

    /// For each value of the next digit, returns the count or mass of some tokens of this rank: those whose keys have
    /// the known bits, followed by this digit.
    ///
    /// `tokens` yields the candidates, each with its count or mass.
    pub fn histogram<S: Element>(&mut self, tokens: impl Iterator<Item = (Candidate, u64)>) -> [u64; BUCKETS] {
        let mut sums = [0u64; BUCKETS];
        let shift = self.unknown - DIGIT;
        if self.unknown == bits::<S>() {
            tokens.for_each(|(c, amount)| sums[(key::<S>(c.logit) >> shift) as usize] += amount);
            return sums;
        }
        // The first round finds the first digit, and stores no tokens. The second round stores the tokens whose keys
        // start with this digit.
        if shift + 2 * DIGIT == bits::<S>() {
            let (unknown, known) = (self.unknown, self.key);
            let place = |(c, amount): (Candidate, u64)| Place { key: key::<S>(c.logit), amount, token: c.token };
            self.places.extend(tokens.map(place).filter(|place| place.key >> unknown == known));
        } else {
            self.narrow();
        }
        for place in &self.places {
            sums[(place.key >> shift) as usize % BUCKETS] += place.amount;
        }
        sums
    }

    /// Drops the stored tokens whose keys do not have the known bits.
    fn narrow(&mut self) {
        let (unknown, known) = (self.unknown, self.key);
        self.places.retain(|place| place.key >> unknown == known);
    }

    /// Determines the next digit from the histogram summed over all ranks.
    pub fn take(&mut self, sums: &[u64]) {
        for (digit, sum) in sums.iter().enumerate().rev() {
            if *sum >= self.needed {
                self.key = self.key << DIGIT | digit as u64;
                self.unknown -= DIGIT;
                return;
            }
            self.needed -= sum;
        }
        self.is_all = true;
    }

    /// Returns this rank's number of ties with the last token. All digits must be known.
    pub fn equals(&mut self) -> u64 {
        self.narrow();
        self.places.len() as u64
    }

    /// Determines which ties of this rank are in the prefix.
    ///
    /// `ranks` has the number of ties on each rank, in order of columns. `own` is the position of this rank.
    pub fn share(&mut self, ranks: &[u64], own: usize) {
        let Some(amount) = self.places.first().map(|place| place.amount) else { return };
        let before: u64 = if self.highest_first { &ranks[own + 1..] } else { &ranks[..own] }.iter().sum();
        let count = if self.keeps_equals { u64::MAX } else { self.needed.div_ceil(amount) };
        let count = (count.saturating_sub(before) as usize).min(self.places.len());
        if let Some(last) = count.checked_sub(1) {
            let at = if self.highest_first { self.places.len() - count } else { last };
            self.last = Some(self.places[at].token);
        }
    }

    /// Returns whether the prefix contains the candidate.
    pub fn holds<S: Element>(&self, c: &Candidate) -> bool {
        let key = key::<S>(c.logit);
        let is_among = |last| if self.highest_first { c.token >= last } else { c.token <= last };
        self.is_all || key > self.key || key == self.key && self.last.is_some_and(is_among)
    }
}
