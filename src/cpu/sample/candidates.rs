//! Remaining tokens of a row, in order of index.

use super::scale::Scale;
use crate::cpu::scratch::scratch_slice;
use crate::element::Element;
use crate::simd::{BLOCK, Isa, allocated};
use std::cmp::Ordering;

/// A token and its logit.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub logit: f64,
    pub token: u32,
}

impl Candidate {
    /// Compares in the order in which filters keep tokens: descending by logit, and ascending by index among equal
    /// logits.
    pub fn order(a: &Candidate, b: &Candidate) -> Ordering {
        b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
    }

    /// Compares like [`Candidate::order`], but descending by index among equal logits.
    pub fn order_highest(a: &Candidate, b: &Candidate) -> Ordering {
        b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(b.token.cmp(&a.token))
    }
}

/// Tokens in order of index, with their logits and, once computed, their weights.
#[derive(Default)]
pub struct Candidates<S> {
    count: usize,
    /// Whether `weights` is up to date.
    weighed: bool,
    /// The first `count` elements of `tokens`, `logits` and `weights` are in use.
    tokens: Vec<u32>,
    logits: Vec<S>,
    weights: Vec<f32>,
    /// Buffer for selection by [`Candidate::order`].
    order: Vec<Candidate>,
}

allocated! {
    Candidates<S> { count, weighed, tokens, logits, weights, order }
}

/// Destination of appended candidates.
///
/// The slices extend one block past the requested length, because vector code writes whole blocks.
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

    /// Returns the weights, which must be up to date.
    pub fn weights(&self) -> &[f32] {
        &self.weights[..self.count]
    }

    /// Reserves space for `more` candidates and calls `fill`, which writes them and advances [`Room::count`].
    #[inline(always)]
    pub fn append(&mut self, more: usize, fill: impl FnOnce(&mut Room<'_, S>)) {
        let len = self.count + more + BLOCK;
        let tokens = scratch_slice(&mut self.tokens, len);
        if self.logits.len() < len {
            self.logits.resize(len, S::ZERO);
        }
        let weights = scratch_slice(&mut self.weights, len);
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

    /// Sets whether the weights of all candidates are up to date.
    pub fn set_weighed(&mut self, weighed: bool) {
        self.weighed = weighed;
    }

    /// Computes the weights unless they are up to date.
    #[inline(always)]
    pub fn weigh<I: Isa>(&mut self, isa: I, scale: Scale) {
        if !self.weighed {
            scale.weigh(isa, &self.logits[..self.count], &mut self.weights[..self.count]);
            self.weighed = true;
        }
    }

    /// Sets all logits, which were infinite, to 0, so that all tokens are equally probable.
    pub fn make_alike(&mut self) {
        self.logits[..self.count].fill(S::ZERO);
    }

    pub fn logits_mut(&mut self) -> &mut [S] {
        &mut self.logits[..self.count]
    }

    /// Appends all candidates of `others`. The type `S` must represent their logits exactly.
    pub fn append_all<T: Element>(&mut self, others: &Candidates<T>) {
        self.append(others.len(), |room| {
            let to = room.count..room.count + others.len();
            room.tokens[to.clone()].copy_from_slice(others.tokens());
            for (to, logit) in room.logits[to.clone()].iter_mut().zip(others.logits()) {
                *to = S::from_wide(logit.widen());
            }
            room.count = to.end;
        });
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

    /// Reduces the logits by `choose`, in independent lanes, so that the latencies of `choose` overlap.
    #[inline(always)]
    fn extreme(&self, from: f64, choose: impl Fn(f64, f64) -> f64) -> f64 {
        let mut lanes = [from; BLOCK];
        let (blocks, rest) = self.logits().as_chunks::<BLOCK>();
        for block in blocks {
            for i in 0..BLOCK {
                lanes[i] = choose(lanes[i], block[i].widen());
            }
        }
        lanes.into_iter().chain(rest.iter().map(|z| z.widen())).fold(from, choose)
    }

    /// Keeps the candidates for which `such` returns true.
    ///
    /// The arguments of `such` are the position, the candidate and its weight. The weight is meaningful only if the
    /// weights are up to date.
    pub fn retain(&mut self, such: impl Fn(usize, Candidate, f32) -> bool) {
        let mut kept = 0;
        for i in 0..self.count {
            let (token, logit, weight) = (self.tokens[i], self.logits[i], self.weights[i]);
            // Stores the candidate even if it is removed, because a branch would often be mispredicted.
            (self.tokens[kept], self.logits[kept], self.weights[kept]) = (token, logit, weight);
            kept += usize::from(such(i, Candidate { logit: logit.widen(), token }, weight));
        }
        self.count = kept;
    }

    /// Returns the `count`th candidate in the order of [`Candidate::order`], or the last one if there are fewer.
    /// `count` is at least 1.
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

    /// Returns the first `count` candidates, or all if there are fewer, sorted in the order of [`Candidate::order`].
    pub fn first_in_order(&mut self, count: usize) -> &[Candidate] {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(self.iter());
        if count < order.len() {
            order.select_nth_unstable_by(count, Candidate::order);
            order.truncate(count);
        }
        order.sort_unstable_by(Candidate::order);
        self.order = order;
        &self.order
    }

    /// Keeps the first k candidates in the order of [`Candidate::order`]. With `keeps_equals`, also keeps all
    /// candidates with the logit of the k-th.
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
