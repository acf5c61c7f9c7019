//! Filters of a plan, applied in sequence to the remaining tokens of a row.

use super::candidates::{Candidate, Candidates};
use super::scale::{Scale, exp_of, ln_of};
use super::top_p::{self, Crossing, ceil_of_product, floor_of_product};
use super::typical::{self, Place};
use crate::element::Element;
use crate::math::sum::sums_o;
use crate::sampler::{Controller, Draw, Filter};
use crate::simd::{BLOCK, Isa, Kernel, Select, allocated};

/// Reusable buffers of the filters.
#[derive(Default)]
pub struct Scraps {
    /// Distance of each candidate's surprise (its negative log-probability) from the entropy.
    off: Vec<f64>,
    places: Vec<Place>,
    crossing: Crossing,
    /// Mass of each run of [`RUN`] weights.
    pub masses: Vec<u64>,
}

allocated! {
    Scraps { off, places, crossing, masses }
}

/// Number of weights whose masses are summed before the draw. The draw then finds the token in one run.
pub const RUN: usize = 1024;

/// Returns the run that a draw selects, and the mass by which the draw exceeds the runs before it. `masses` has the
/// masses of all runs.
///
/// The draw selects the first token whose cumulative mass exceeds (64 random bits) * (total mass) / 2^64.
pub fn drawn_run(draw: Draw, masses: &[u64]) -> (usize, u64) {
    let mut at = draw.below(masses.iter().sum());
    let is_reached = |mass: &u64| {
        let is_reached = *mass > at;
        at -= if is_reached { 0 } else { *mass };
        is_reached
    };
    (masses.iter().position(is_reached).unwrap_or(0), at)
}

/// Returns the position of the first weight of a run whose cumulative mass exceeds `at`.
pub fn drawn_in_run(scale: Scale, weights: &[f32], at: u64) -> usize {
    let mut sum = 0;
    let is_reached = |&weight: &f32| {
        sum += scale.mass(weight);
        sum > at
    };
    weights.iter().position(is_reached).unwrap_or(0)
}

/// Filters to apply to the candidates of a row. There is at least one candidate, and all logits are finite.
pub struct Filtering<'a, S> {
    pub filters: &'a [Filter],
    pub min_keep: usize,
    /// Mirostat, which is applied after the filters. Adaptive-p has no effect here.
    pub controller: Option<Controller>,
    pub needs_log_sum: bool,
    pub draw: Draw,
    /// Mass of all tokens before filtering, if a filter needs it.
    pub total: u64,
    pub candidates: &'a mut Candidates<S>,
    pub scale: Scale,
    pub scraps: &'a mut Scraps,
}

/// Result of a draw from the remaining candidates, and the numbers that normalise their probabilities.
pub struct DrawnCandidate {
    pub scale: Scale,
    /// Logarithm of the sum of e^((logit - max) / temperature) over the candidates. NaN if it was not
    /// computed.
    pub log_sum: f64,
    /// Position of the drawn candidate.
    pub drawn: usize,
    /// Number of tokens that the filters kept.
    pub kept: usize,
    pub controller: Option<Controller>,
}

impl<S: Element> Kernel for Filtering<'_, S> {
    type Out = DrawnCandidate;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> DrawnCandidate {
        for filter in self.filters {
            self.apply(isa, filter);
        }
        if let Some(controller) = self.controller {
            self.apply_mirostat(isa, controller);
        }
        self.weigh(isa);
        let log_sum = if self.needs_log_sum { self.scale.log_sum(isa, self.candidates.logits()).0 } else { f64::NAN };
        let (drawn, kept) = (self.drawn(isa), self.candidates.len());
        DrawnCandidate { scale: self.scale, log_sum, drawn, kept, controller: self.controller }
    }
}

impl<S: Element> Filtering<'_, S> {
    #[inline(always)]
    pub fn weigh<I: Isa>(&mut self, isa: I) {
        self.candidates.weigh(isa, self.scale);
    }

    #[inline(always)]
    pub fn mass<I: Isa>(&self, isa: I) -> u64 {
        self.scale.mass_of(isa, self.candidates.weights())
    }

    /// Draws one of the candidates, and returns its position.
    #[inline(always)]
    fn drawn<I: Isa>(&mut self, isa: I) -> usize {
        let (scale, weights, masses) = (self.scale, self.candidates.weights(), &mut self.scraps.masses);
        masses.clear();
        masses.reserve(scale.vocabulary.div_ceil(RUN));
        for run in weights.chunks(RUN) {
            masses.push(scale.mass_of(isa, run));
        }
        let (run, at) = drawn_run(self.draw, masses);
        run * RUN + drawn_in_run(scale, &weights[run * RUN..], at)
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
                let total = if of_all { self.total } else { self.mass(isa) };
                let order = if highest_first { Candidate::order_highest } else { Candidate::order };
                let enough = (ceil_of_product(p, total), self.min_keep);
                top_p::keep(self.candidates, self.scale, enough, order, &mut self.scraps.crossing);
            }
            Filter::MinP(p) => {
                self.weigh(isa);
                let needed = if p > 1.0 { u64::MAX } else { ceil_of_product(p, self.scale.one()) };
                self.keep_masses(needed);
            }
            Filter::Typical { p, keeps_equals } => self.typical(isa, p, keeps_equals),
            Filter::TopNSigma(n) => {
                let bound = self.scale.max - n * self.deviation(isa);
                self.keep(|c, _| c.logit >= bound);
            }
            Filter::Epsilon(epsilon) => self.cut_off(isa, epsilon),
            Filter::Eta(eta) => {
                let (entropy, _) = self.scale.entropy(isa, self.candidates.logits());
                self.cut_off(isa, eta.min(eta.sqrt() * exp_of(isa, -entropy)));
            }
            Filter::Xtc { probability, threshold } => {
                if self.draw.tosses(probability) {
                    self.exclude_top_choices(isa, threshold);
                }
            }
        }
    }

    /// Keeps the candidates for which `such` returns true. Always keeps the first `min_keep` candidates.
    fn keep(&mut self, such: impl Fn(Candidate, f32) -> bool) {
        let Some(last) = self.candidates.last_of_first(self.min_keep) else { return };
        self.candidates.retain(|_, c, weight| such(c, weight) || Candidate::order(&c, &last).is_le());
    }

    pub fn keep_masses(&mut self, least: u64) {
        let scale = self.scale;
        // With min-p, usually all candidates pass, because most tokens of smaller mass were not collected.
        if self.candidates.weights().iter().filter(|weight| scale.mass(**weight) < least).count() > 0 {
            self.keep(|_, weight| scale.mass(weight) >= least);
        }
    }

    /// Keeps candidates with at least this probability. Always keeps the first `min_keep` candidates, and all
    /// candidates with the same logit as the last of these.
    #[inline(always)]
    fn cut_off<I: Isa>(&mut self, isa: I, probability: f64) {
        self.weigh(isa);
        let (scale, needed) = (self.scale, ceil_of_product(probability, self.mass(isa)));
        let Some(last) = self.candidates.last_of_first(self.min_keep) else { return };
        self.candidates.retain(|_, c, weight| scale.mass(weight) >= needed || c.logit >= last.logit);
    }

    fn heat(&mut self, temperature: f64) {
        self.rescale(Scale::new(self.scale.max, temperature, self.scale.vocabulary));
    }

    fn rescale(&mut self, scale: Scale) {
        self.scale = scale;
        self.candidates.set_weighed(false);
    }

    #[inline(always)]
    fn heat_by_entropy<I: Isa>(&mut self, isa: I, low: f64, high: f64, exponent: f64) {
        let n = self.candidates.len();
        if n < 2 {
            return;
        }
        let (entropy, _) = self.scale.entropy(isa, self.candidates.logits());
        let share = (entropy / ln_of(isa, n as f64)).min(1.0);
        let temperature = low + (high - low) * power(isa, share, exponent);
        if temperature > 0.0 { self.heat(temperature) } else { self.candidates.keep_first(1, false) }
    }

    /// Returns the standard deviation of the logits.
    #[inline(always)]
    fn deviation<I: Isa>(&self, isa: I) -> f64 {
        let logits = self.candidates.logits();
        let n = logits.len() as f64;
        // Subtracts the maximum from the logits first, so that a large common offset costs few digits.
        let (max, zero) = (isa.f64(self.scale.max), isa.f64(0.0));
        // Masks out the padding of the last block.
        let there = |i: usize| isa.mask_wide(((1u32 << logits.len().saturating_sub(i * BLOCK).min(BLOCK)) - 1) as u16);
        let [sum] = sums_o(
            isa,
            logits,
            S::ZERO,
            #[inline(always)]
            |i, block, [sum]| [sum + I::F64::select(there(i), S::load_wide(isa, block) - max, zero)],
        );
        let mean = isa.f64(sum / n);
        let [squares] = sums_o(
            isa,
            logits,
            S::ZERO,
            #[inline(always)]
            |i, block, [squares]| {
                let d = (S::load_wide(isa, block) - max) - mean;
                [squares + I::F64::select(there(i), d * d, zero)]
            },
        );
        (squares / n).sqrt()
    }

    #[inline(always)]
    fn typical<I: Isa>(&mut self, isa: I, p: f64, keeps_equals: bool) {
        self.weigh(isa);
        let (scale, candidates) = (self.scale, &mut *self.candidates);
        let (entropy, log_sum) = scale.entropy(isa, candidates.logits());
        let mass = scale.mass_of(isa, candidates.weights());
        let (least, most) = (ceil_of_product(p, mass), floor_of_product(p, mass));
        let is_enough = |sum: u64| if keeps_equals { sum >= least } else { sum > most || p == 0.0 };
        let Scraps { off, places, .. } = &mut *self.scraps;
        // The surprise is the negative log-probability.
        off.clear();
        off.extend(candidates.logits().iter().map(|z| ((log_sum - scale.distance(z.widen())) - entropy).abs()));
        let last = typical::last(off, |i| scale.mass(candidates.weights()[i]), is_enough, places);
        let first = (self.min_keep > 1).then(|| typical::last_of_first(off, self.min_keep, places));
        candidates.retain(|i, _, _| {
            let place = (off[i], i);
            (if keeps_equals { place.0 <= last.0 } else { place <= last }) || first.is_some_and(|first| place <= first)
        });
        let max = candidates.max();
        self.rescale(Scale { max, ..scale });
    }

    /// Removes the tokens whose probability is at least `threshold`, except the last such token in the order of
    /// [`Candidate::order`]. Keeps all tokens if fewer than `min_keep` would remain.
    #[inline(always)]
    fn exclude_top_choices<I: Isa>(&mut self, isa: I, threshold: f64) {
        self.weigh(isa);
        let scale = self.scale;
        let least = ceil_of_product(threshold, self.mass(isa));
        let choices = self.candidates.weights().iter().filter(|weight| scale.mass(**weight) >= least).count();
        let left = self.candidates.len() - choices.saturating_sub(1);
        if choices < 2 || left < self.min_keep {
            return;
        }
        if let Some(last) = self.candidates.last_of_first(choices) {
            self.candidates.retain(|_, c, _| Candidate::order(&c, &last).is_ge());
            self.rescale(Scale { max: last.logit, ..scale });
        }
    }
}

/// Returns share^exponent, where `share` is from 0 to 1.
#[inline(always)]
fn power<I: Isa>(isa: I, share: f64, exponent: f64) -> f64 {
    if exponent == 0.0 {
        return 1.0;
    }
    if share == 0.0 {
        return 0.0;
    }
    exp_of(isa, exponent * ln_of(isa, share))
}
