//! Where a prefix of tokens that are dealt out to ranks ends: digit by digit of the last one's logit, from histograms
//! whose sums over all ranks every rank has.

use super::candidates::Candidate;
use crate::element::{DType, Element};
use crate::sharded::keys;

/// Bits of a key that are found at once.
const DIGIT: u32 = 8;
/// Words of a histogram.
pub const BUCKETS: usize = 1 << DIGIT;

/// What a prefix goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    Count,
    Mass,
}

/// A token that may be the last one.
struct Place {
    key: u64,
    /// One, or its mass.
    amount: u64,
    token: u32,
}

/// The shortest prefix that amounts to something, the highest logit first.
pub struct Search {
    pub by: By,
    needed: u64,
    /// Whether of equals the highest index is first.
    highest_first: bool,
    /// Whether all equals of the last one are in it.
    keeps_equals: bool,
    /// Bits of a key that are not known yet.
    unknown: u32,
    /// The known ones.
    key: u64,
    /// Those of this rank that have them, in order of their tokens.
    places: Vec<Place>,
    is_all: bool,
    /// Which of the equals are in it: from this token on, or up to it.
    last: Option<u32>,
}

/// An integer whose order is that of logits, where zeros are equal.
pub fn key<S: Element>(logit: f64) -> u64 {
    // -0 + 0 is 0.
    match S::DTYPE {
        DType::F64 => keys::of_f64(logit + 0.0),
        _ => keys::of_f32(logit as f32 + 0.0).into(),
    }
}

/// Bits of a key.
fn bits<S: Element>() -> u32 {
    if S::IS_F64 { u64::BITS } else { u32::BITS }
}

impl Search {
    pub fn new<S: Element>(by: By, needed: u64, highest_first: bool, keeps_equals: bool) -> Self {
        let unknown = bits::<S>();
        let (places, is_all, last) = (Vec::new(), false, None);
        Search { by, needed, highest_first, keeps_equals, unknown, key: 0, places, is_all, last }
    }

    /// Whether histograms are still to come.
    pub fn is_open(&self) -> bool {
        self.unknown > 0 && !self.is_all
    }

    /// How much there is for each value of the next digit; of these tokens and their amounts.
    pub fn histogram<S: Element>(&mut self, tokens: impl Iterator<Item = (Candidate, u64)>) -> [u64; BUCKETS] {
        let mut sums = [0u64; BUCKETS];
        let shift = self.unknown - DIGIT;
        if self.unknown == bits::<S>() {
            tokens.for_each(|(c, amount)| sums[(key::<S>(c.logit) >> shift) as usize] += amount);
            return sums;
        }
        // Of the first digit alone nothing is kept: most tokens may have it.
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

    fn narrow(&mut self) {
        let (unknown, known) = (self.unknown, self.key);
        self.places.retain(|place| place.key >> unknown == known);
    }

    /// Finds a digit by what all ranks have for each of its values.
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

    /// How many tokens of this rank have the last one's logit; its digits are known.
    pub fn equals(&mut self) -> u64 {
        self.narrow();
        self.places.len() as u64
    }

    /// Finds which of these are in it, by how many other ranks have before them in order.
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

    /// Whether it is in the prefix that was found.
    pub fn holds<S: Element>(&self, c: &Candidate) -> bool {
        let key = key::<S>(c.logit);
        let is_among = |last| if self.highest_first { c.token >= last } else { c.token <= last };
        self.is_all || key > self.key || key == self.key && self.last.is_some_and(is_among)
    }
}
