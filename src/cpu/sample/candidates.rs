//! The tokens that are left of a row, in order of their index.

use crate::cpu::scores::{Exps, exp_f64};
use crate::math::softmax_exp::PairExp;
use crate::math::sum::{sum_o, unit_bits};
use crate::simd::{Float, Isa, LANES, Select, Span, block};
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

/// Tokens in order of their index, their logits, and their masses where these are known.
#[derive(Default)]
pub struct Candidates {
    pub tokens: Vec<u32>,
    pub logits: Vec<f64>,
    /// Empty where they are not known.
    pub masses: Vec<u64>,
}

impl Candidates {
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    pub fn push(&mut self, Candidate { logit, token }: Candidate) {
        self.tokens.push(token);
        self.logits.push(logit);
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = Candidate> {
        self.logits.iter().zip(&self.tokens).map(|(&logit, &token)| Candidate { logit, token })
    }

    pub fn max(&self) -> f64 {
        self.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    pub fn min(&self) -> f64 {
        self.logits.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Keeps those which, or whose mass, are such; a mass that is not known is 0.
    pub fn retain(&mut self, such: impl Fn(Candidate, u64) -> bool) {
        let mut kept = 0;
        for i in 0..self.tokens.len() {
            let (c, mass) = (Candidate { logit: self.logits[i], token: self.tokens[i] }, self.masses.get(i).copied());
            if such(c, mass.unwrap_or(0)) {
                (self.logits[kept], self.tokens[kept]) = (c.logit, c.token);
                if let Some(mass) = mass {
                    self.masses[kept] = mass;
                }
                kept += 1;
            }
        }
        self.truncate(kept);
    }

    /// Keeps those that are flagged.
    pub fn keep_flagged(&mut self, flags: impl Iterator<Item = bool>) {
        let mut kept = 0;
        for (i, _) in flags.enumerate().filter(|(_, flag)| *flag) {
            (self.logits[kept], self.tokens[kept]) = (self.logits[i], self.tokens[i]);
            if let Some(&mass) = self.masses.get(i) {
                self.masses[kept] = mass;
            }
            kept += 1;
        }
        self.truncate(kept);
    }

    fn truncate(&mut self, count: usize) {
        self.logits.truncate(count);
        self.tokens.truncate(count);
        self.masses.truncate(count);
    }

    /// The last of the first `count`, at least one, in order; of all, if there are not so many.
    pub fn last_of_first(&self, count: usize) -> Option<Candidate> {
        if count == 1 {
            return self.iter().min_by(Candidate::order);
        }
        let mut all: Vec<Candidate> = self.iter().collect();
        let last = count.min(all.len()).checked_sub(1)?;
        Some(*all.select_nth_unstable_by(last, Candidate::order).1)
    }

    /// Keeps the first k, and all that are equal to the last of them if equals are kept.
    pub fn keep_first(&mut self, k: usize, keeps_equals: bool) {
        if k >= self.len() {
            return;
        }
        if let Some(last) = self.last_of_first(k) {
            self.retain(|c, _| if keeps_equals { c.logit >= last.logit } else { Candidate::order(&c, &last).is_le() });
        }
    }
}

/// How logits become masses.
#[derive(Clone, Copy)]
pub struct Scale {
    pub max: f64,
    /// 1 / temperature, finite.
    inverse: f64,
    pub vocabulary: usize,
}

impl Scale {
    pub fn new(max: f64, temperature: f64, vocabulary: usize) -> Self {
        Scale { max, inverse: (1.0 / temperature).min(f64::MAX), vocabulary }
    }

    /// The largest token weighs 2 to this.
    pub fn bits(self) -> u32 {
        unit_bits(self.vocabulary)
    }

    pub fn temperature(self) -> f64 {
        1.0 / self.inverse
    }

    /// The mass of a weight, which the largest token's is 1.
    pub fn mass(self, weight: f32) -> u64 {
        (f64::from(weight) * (1u64 << self.bits()) as f64).round_ties_even() as u64
    }

    /// The weight of a mass.
    pub fn weight(self, mass: u64) -> f64 {
        mass as f64 / (1u64 << self.bits()) as f64
    }

    /// (logit - max) / temperature: at most 0.
    #[inline(always)]
    pub fn distance<I: Isa>(self, isa: I, logit: I::F64) -> I::F64 {
        (logit - isa.f64(self.max)) * isa.f64(self.inverse)
    }

    /// The distance of each.
    #[inline(always)]
    pub fn distances<I: Isa>(self, isa: I, logits: &[f64], distances: &mut Vec<f64>) {
        distances.clear();
        distances.extend_from_slice(logits);
        Span::in_place(&mut distances[..]).map_wide(
            isa,
            #[inline(always)]
            |_, z| self.distance(isa, z),
        );
    }

    #[inline(always)]
    pub fn masses<I: Isa>(self, isa: I, distances: &[f64], masses: &mut Vec<u64>) {
        /// Adding it rounds to an integer, which is then in the low bits.
        const SHIFTER: f64 = (1u64 << 52) as f64;
        let exp = PairExp::new(isa);
        let (one, shifter) = (isa.f64((1u64 << self.bits()) as f64), isa.f64(SHIFTER));
        masses.clear();
        masses.resize(distances.len().next_multiple_of(LANES), 0);
        for (i, to) in masses.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let e = exp.exp(isa.load_f64(&block(distances, i, 0.0)));
            let mass = (isa.widen(e) * one + shifter).to_bits() - shifter.to_bits();
            let mass = isa.array_f64(I::F64::from_bits(mass));
            for lane in 0..LANES {
                to[lane] = mass[lane].to_bits();
            }
        }
        masses.truncate(distances.len());
    }
}

/// The logarithm of the sum of e to each distance.
#[inline(always)]
pub fn log_sum<I: Isa>(isa: I, distances: &[f64], buffer: &mut Vec<f64>) -> f64 {
    buffer.clear();
    buffer.resize(distances.len(), 0.0);
    exp_f64(isa, distances, 0.0, buffer);
    Exps::F64 { values: buffer }.log_sum(isa)
}

/// The entropy of what has these distances, and [`log_sum`].
#[inline(always)]
pub fn entropy<I: Isa>(isa: I, distances: &[f64], buffer: &mut Vec<f64>) -> (f64, f64) {
    let log_sum = log_sum(isa, distances, buffer);
    let zero = isa.f64(0.0);
    let weighted = sum_o(
        isa,
        distances.len(),
        #[inline(always)]
        |i| {
            let (e, d) = (isa.load_f64(&block(buffer, i, 0.0)), isa.load_f64(&block(distances, i, 0.0)));
            // What is too far away for any weight may be infinitely far.
            I::F64::select(e.eq(zero), zero, e * d)
        },
    );
    let sum = sum_o(
        isa,
        distances.len(),
        #[inline(always)]
        |i| isa.load_f64(&block(buffer, i, 0.0)),
    );
    ((log_sum - weighted / sum).max(0.0), log_sum)
}
