//! The filters of a plan, one after the other, on what is left of a row.

use super::candidates::{Candidate, Candidates, Scale, entropy, log_sum};
use super::top_p::{self, ceil_of_product};
use super::typical;
use crate::cpu::scores::exp_f64;
use crate::math::log::log_scalar;
use crate::math::sum::sum_o;
use crate::ops::sample::{Draw, Filter, Left};
use crate::simd::{Isa, Kernel, LANES, Select, block};

/// Filters of candidates, of which there is at least one, all of them finite.
pub struct Filtering<'a> {
    pub filters: &'a [Filter],
    pub min_keep: usize,
    pub draw: Draw,
    pub vocabulary: usize,
    /// The mass of all tokens, where a filter asks for it.
    pub total: u64,
    pub candidates: &'a mut Candidates,
    /// The largest logit.
    pub max: f64,
    pub temperature: f64,
    pub distances: &'a mut Vec<f64>,
    pub buffer: &'a mut Vec<f64>,
    pub each: &'a mut dyn FnMut(Left<'_>),
}

impl Kernel for Filtering<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for filter in self.filters {
            self.apply(isa, filter);
        }
        if self.candidates.masses.is_empty() {
            self.weigh(isa);
        } else {
            self.scale().distances(isa, &self.candidates.logits, self.distances);
        }
        let log_sum = log_sum(isa, self.distances, self.buffer);
        let Candidates { tokens, masses, .. } = self.candidates;
        (self.each)(Left { vocabulary: self.vocabulary, tokens, masses, distances: self.distances, log_sum });
    }
}

impl Filtering<'_> {
    fn scale(&self) -> Scale {
        Scale::new(self.max, self.temperature, self.vocabulary)
    }

    /// Makes the masses known, and with them the distances if they were not.
    #[inline(always)]
    fn weigh<I: Isa>(&mut self, isa: I) {
        if self.candidates.masses.is_empty() {
            self.scale().distances(isa, &self.candidates.logits, self.distances);
            self.scale().masses(isa, self.distances, &mut self.candidates.masses);
        }
    }

    fn mass(&self) -> u64 {
        self.candidates.masses.iter().sum()
    }

    #[inline(always)]
    fn apply<I: Isa>(&mut self, isa: I, filter: &Filter) {
        match *filter {
            Filter::Greedy => self.candidates.keep_first(1, false),
            Filter::Temperature(temperature) => self.heat(temperature),
            Filter::DynamicTemperature { low, high, exponent } => self.heat_by_entropy(isa, low, high, exponent),
            Filter::TopK { k, keeps_equals } => self.candidates.keep_first(k, keeps_equals),
            Filter::TopP { p, highest_first, of_all } => {
                self.weigh(isa);
                let total = if of_all { self.total } else { self.mass() };
                let order = if highest_first { Candidate::order_highest } else { Candidate::order };
                let (scale, needed) = (self.scale(), ceil_of_product(p, total));
                top_p::keep(self.candidates, scale, needed, self.min_keep, order);
            }
            Filter::MinP(p) => {
                self.weigh(isa);
                let one = 1u64 << self.scale().bits();
                self.keep_masses(if p > 1.0 { u64::MAX } else { ceil_of_product(p, one) });
            }
            Filter::Typical { p, keeps_equals } => self.typical(isa, p, keeps_equals),
            Filter::TopNSigma(n) => {
                let bound = self.max - n * self.deviation(isa);
                self.keep(|c, _| c.logit >= bound);
            }
            Filter::Epsilon(epsilon) => self.cut_off(isa, epsilon),
            Filter::Eta(eta) => {
                self.scale().distances(isa, &self.candidates.logits, self.distances);
                let (entropy, _) = entropy(isa, self.distances, self.buffer);
                self.cut_off(isa, eta.min(eta.sqrt() * exp_of(isa, -entropy)));
            }
            Filter::Xtc { probability, threshold } => {
                if self.draw.tosses(probability) {
                    self.exclude_top_choices(isa, threshold);
                }
            }
        }
    }

    /// Keeps what is such, and the first few whatever they are.
    fn keep(&mut self, such: impl Fn(Candidate, u64) -> bool) {
        let Some(last) = self.candidates.last_of_first(self.min_keep) else { return };
        self.candidates.retain(|c, mass| such(c, mass) || Candidate::order(&c, &last).is_le());
    }

    fn keep_masses(&mut self, least: u64) {
        self.keep(|_, mass| mass >= least);
    }

    /// Keeps what is at least so probable, and the first few with all that are equal to the last of them.
    #[inline(always)]
    fn cut_off<I: Isa>(&mut self, isa: I, probability: f64) {
        self.weigh(isa);
        let needed = ceil_of_product(probability, self.mass());
        let Some(last) = self.candidates.last_of_first(self.min_keep) else { return };
        self.candidates.retain(|c, mass| mass >= needed || c.logit >= last.logit);
    }

    fn heat(&mut self, temperature: f64) {
        self.temperature = temperature;
        self.candidates.masses.clear();
    }

    #[inline(always)]
    fn heat_by_entropy<I: Isa>(&mut self, isa: I, low: f64, high: f64, exponent: f64) {
        let n = self.candidates.len();
        if n < 2 {
            return;
        }
        self.scale().distances(isa, &self.candidates.logits, self.distances);
        let (entropy, _) = entropy(isa, self.distances, self.buffer);
        let share = (entropy / log_scalar(isa, n as f64).0).min(1.0);
        let temperature = low + (high - low) * power(isa, share, exponent);
        if temperature > 0.0 { self.heat(temperature) } else { self.candidates.keep_first(1, false) }
    }

    /// The standard deviation of the logits.
    #[inline(always)]
    fn deviation<I: Isa>(&self, isa: I) -> f64 {
        let logits = &self.candidates.logits;
        let n = logits.len() as f64;
        // About the largest, so that it does not matter how large they are.
        let max = isa.f64(self.max);
        let sum = sum_o(
            isa,
            logits.len(),
            #[inline(always)]
            |i| isa.load_f64(&block(logits, i, self.max)) - max,
        );
        let mean = isa.f64(sum / n);
        let squares = sum_o(
            isa,
            logits.len(),
            #[inline(always)]
            |i| {
                let d = (isa.load_f64(&block(logits, i, self.max)) - max) - mean;
                let left = logits.len().saturating_sub(i * LANES).min(LANES);
                I::F64::select(isa.mask_wide(((1u32 << left) - 1) as u16), d * d, isa.f64(0.0))
            },
        );
        (squares / n).sqrt()
    }

    #[inline(always)]
    fn typical<I: Isa>(&mut self, isa: I, p: f64, keeps_equals: bool) {
        self.weigh(isa);
        self.scale().distances(isa, &self.candidates.logits, self.distances);
        let (entropy, log_sum) = entropy(isa, self.distances, self.buffer);
        // How far each token's surprise is from the entropy.
        let off: Vec<f64> = self.distances.iter().map(|d| ((log_sum - d) - entropy).abs()).collect();
        let needed = ceil_of_product(p, self.mass());
        let is_enough = |sum: u64| if keeps_equals { sum >= needed } else { sum > needed || p == 0.0 };
        let last = typical::last(&off, &self.candidates.masses, is_enough);
        let mut flags: Vec<bool> = (off.iter().enumerate())
            .map(|(i, &off)| if keeps_equals { off <= last.0 } else { (off, i) <= last })
            .collect();
        if self.min_keep > 1 {
            let mut order: Vec<usize> = (0..off.len()).collect();
            let first = self.min_keep.min(off.len()) - 1;
            order.select_nth_unstable_by(first, |&a, &b| off[a].total_cmp(&off[b]).then(a.cmp(&b)));
            order[..=first].iter().for_each(|&i| flags[i] = true);
        }
        self.candidates.keep_flagged(flags.into_iter());
        self.max = self.candidates.max();
        self.candidates.masses.clear();
    }

    /// Takes away all but the last of the tokens that are at least so probable.
    #[inline(always)]
    fn exclude_top_choices<I: Isa>(&mut self, isa: I, threshold: f64) {
        self.weigh(isa);
        let least = ceil_of_product(threshold, self.mass());
        let choices = self.candidates.masses.iter().filter(|mass| **mass >= least).count();
        let left = self.candidates.len() - choices.saturating_sub(1);
        if choices < 2 || left < self.min_keep {
            return;
        }
        if let Some(last) = self.candidates.last_of_first(choices) {
            self.candidates.retain(|c, _| Candidate::order(&c, &last).is_ge());
            self.max = last.logit;
            self.candidates.masses.clear();
        }
    }
}

/// share^exponent for a share from 0 to 1.
#[inline(always)]
fn power<I: Isa>(isa: I, share: f64, exponent: f64) -> f64 {
    if exponent == 0.0 {
        return 1.0;
    }
    if share == 0.0 {
        return 0.0;
    }
    exp_of(isa, exponent * log_scalar(isa, share).0)
}

/// e^x of one number.
#[inline(always)]
fn exp_of<I: Isa>(isa: I, x: f64) -> f64 {
    let mut power = [0.0];
    exp_f64(isa, &[x], 0.0, &mut power);
    power[0]
}
