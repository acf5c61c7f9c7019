//! The tokens that are left of a row, in order of their index.

use super::scale::Scale;
use crate::cpu::scratch::room;
use crate::element::Element;
use crate::simd::{Isa, LANES};
use std::cmp::Ordering;

/// A token and its logit.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub logit: f64,
    pub token: u32,
}

impl Candidate {
    /// The order that filters cut in: the highest logit first, and of equals the lowest index.
    pub fn order(a: &Candidate, b: &Candidate) -> Ordering {
        b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
    }

    /// The same with the highest index first.
    pub fn order_highest(a: &Candidate, b: &Candidate) -> Ordering {
        b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(b.token.cmp(&a.token))
    }
}

/// Tokens in order of their index, their logits, and their weights where these are known.
#[derive(Default)]
pub struct Candidates<S> {
    count: usize,
    weighed: bool,
    /// Of each the first `count` are in use.
    tokens: Vec<u32>,
    logits: Vec<S>,
    weights: Vec<f32>,
    /// To find places in the order of candidates.
    order: Vec<Candidate>,
}

/// Where candidates are appended to: room for those to come and a block behind.
pub struct Room<'a, S> {
    pub tokens: &'a mut [u32],
    pub logits: &'a mut [S],
    pub weights: &'a mut [f32],
    pub count: usize,
}

impl<S: Element> Candidates<S> {
    pub fn clear(&mut self) {
        self.count = 0;
        self.weighed = false;
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.count]
    }

    pub fn logits(&self) -> &[S] {
        &self.logits[..self.count]
    }

    /// Of candidates that were weighed.
    pub fn weights(&self) -> &[f32] {
        &self.weights[..self.count]
    }

    /// Appends what `fill` writes to room for `more`, and counts.
    #[inline(always)]
    pub fn append(&mut self, more: usize, fill: impl FnOnce(&mut Room<'_, S>)) {
        let len = self.count + more + LANES;
        let tokens = room(&mut self.tokens, len);
        if self.logits.len() < len {
            self.logits.resize(len, S::ZERO);
        }
        let weights = room(&mut self.weights, len);
        let mut room = Room { tokens, logits: &mut self.logits[..len], weights, count: self.count };
        fill(&mut room);
        self.count = room.count;
    }

    pub fn push(&mut self, token: u32, logit: S) {
        self.append(1, |room| {
            (room.tokens[room.count], room.logits[room.count]) = (token, logit);
            room.count += 1;
        });
    }

    /// Says that the weights of all candidates were written, or mean nothing any more.
    pub fn set_weighed(&mut self, weighed: bool) {
        self.weighed = weighed;
    }

    /// Makes the weights known if they are not.
    #[inline(always)]
    pub fn weigh<I: Isa>(&mut self, isa: I, scale: Scale) {
        if !self.weighed {
            scale.weigh(isa, &self.logits[..self.count], &mut self.weights[..self.count]);
            self.weighed = true;
        }
    }

    /// Makes all logits 0 that were infinite: none of the tokens is more probable than another.
    pub fn make_alike(&mut self) {
        self.logits[..self.count].fill(S::ZERO);
    }

    pub fn candidate(&self, i: usize) -> Candidate {
        Candidate { logit: self.logits[i].widen(), token: self.tokens[i] }
    }

    pub fn iter(&self) -> impl Iterator<Item = Candidate> {
        (0..self.count).map(|i| self.candidate(i))
    }

    pub fn max(&self) -> f64 {
        self.extreme(f64::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }

    pub fn min(&self) -> f64 {
        self.extreme(f64::INFINITY, |a, b| if b < a { b } else { a })
    }

    /// In lanes, which do not wait for one another.
    #[inline(always)]
    fn extreme(&self, from: f64, choose: impl Fn(f64, f64) -> f64) -> f64 {
        let mut lanes = [from; LANES];
        let (blocks, rest) = self.logits().as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] = choose(lanes[i], block[i].widen());
            }
        }
        lanes.into_iter().chain(rest.iter().map(|z| z.widen())).fold(from, choose)
    }

    /// Keeps those of which this is true: of their place, what they are, and their weight, if it is known.
    pub fn retain(&mut self, such: impl Fn(usize, Candidate, f32) -> bool) {
        let mut kept = 0;
        for i in 0..self.count {
            let (token, logit, weight) = (self.tokens[i], self.logits[i], self.weights[i]);
            // Written in any case: what is kept is hard to foresee.
            (self.tokens[kept], self.logits[kept], self.weights[kept]) = (token, logit, weight);
            kept += usize::from(such(i, Candidate { logit: logit.widen(), token }, weight));
        }
        self.count = kept;
    }

    /// The last of the first `count`, at least one, in order; of all, if there are not so many.
    pub fn last_of_first(&mut self, count: usize) -> Option<Candidate> {
        if count == 1 {
            let max = self.max();
            return self.iter().find(|c| c.logit == max);
        }
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(self.iter());
        let last = count.min(order.len()).checked_sub(1);
        let last = last.map(|last| *order.select_nth_unstable_by(last, Candidate::order).1);
        self.order = order;
        last
    }

    /// Keeps the first k, and all that are equal to the last of them if equals are kept.
    pub fn keep_first(&mut self, k: usize, keeps_equals: bool) {
        if k >= self.count {
            return;
        }
        if let Some(last) = self.last_of_first(k) {
            self.retain(
                |_, c, _| if keeps_equals { c.logit >= last.logit } else { Candidate::order(&c, &last).is_le() },
            );
        }
    }
}
