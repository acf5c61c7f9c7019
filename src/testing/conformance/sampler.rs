//! A suite for samplers.

use super::report::{Defect, Report};
use super::suite::{Failure, Outcome, call};
use crate::element::Element;
use crate::ops::sample::SamplerConfig;
use crate::reference;
use std::collections::BTreeMap;

/// A filter of a sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// [`SamplerConfig::top_k`].
    TopK,
    /// [`SamplerConfig::top_p`].
    TopP,
    /// [`SamplerConfig::min_p`].
    MinP,
}

impl Filter {
    /// All filters.
    pub const ALL: &[Filter] = &[Filter::TopK, Filter::TopP, Filter::MinP];
}

/// Number of draws for each checked distribution. A token's count may deviate from its expected value by six standard
/// deviations plus 1.
const DRAWS: u64 = 3000;

/// Checks a sampler: `f(logits, settings, seed)` returns a token.
///
/// The settings use only the filters in `filters`. A temperature of 0 must select the largest logit. An error is
/// required for logits with a NaN, for logits that are all -inf, and for no logits.
///
/// ```
/// use evenkeel::testing::conformance::{self, Filter};
/// use evenkeel::{Draw, SamplerConfig};
///
/// let ours = |logits: &[f32], settings: &SamplerConfig, seed| {
///     settings.validate()?.sample(logits, Draw { seed, row: 0, draw: 0 }).map(|sampled| sampled.token)
/// };
/// conformance::sampler(Filter::ALL, ours).assert_clean();
/// ```
pub fn sampler<E: Element, R: Outcome<u32>>(
    filters: &[Filter],
    mut f: impl FnMut(&[E], &SamplerConfig, u64) -> R,
) -> Report {
    let mut run = |logits: &[E], settings: &SamplerConfig, seed| call(|| f(logits, settings, seed));
    let mut suite = Sampling { report: Report::new::<E>("sample"), run: &mut run };
    let plain = SamplerConfig::default();
    let greedy = plain.temperature(0.0);
    let has = |filter| filters.contains(&filter);
    let row = |values: &[f64]| values.iter().map(|&v| E::from_wide(v)).collect::<Vec<E>>();
    let far = E::LIMITS.max.min(1e30);
    let masked = f64::NEG_INFINITY;

    // Twelve unsorted tokens with similar probabilities: 4 % to 15 % at temperature 1. A wrongly kept or removed token
    // therefore changes the counts noticeably.
    let flat = row(&[0.25, 0.5, 0.125, 0.375, 0.0, 0.625, -0.125, 0.75, -0.25, 0.875, -0.375, 1.0]);
    let peaked = row(&[-2.0, 3.0, 0.5, 1.0, masked, 2.0, -1.0, 0.0]);
    let mut cuts = vec![("temperature 1", plain), ("temperature 0.5", plain.temperature(0.5)), ("greedy", greedy)];
    if has(Filter::TopK) {
        cuts.push(("top-k 3", plain.top_k(3)));
        cuts.push(("top-k above the number of logits", plain.top_k(50)));
    }
    if has(Filter::TopP) {
        cuts.push(("top-p 0.7", plain.top_p(0.7)));
    }
    if has(Filter::MinP) {
        cuts.push(("min-p 0.6", plain.min_p(0.6)));
    }
    for (name, settings) in cuts {
        suite.distribution(Defect::WrongSupport, &format!("12 close logits, {name}"), &flat, &settings);
        suite.distribution(Defect::WrongSupport, &format!("8 logits, {name}"), &peaked, &settings);
    }
    if has(Filter::TopK) && has(Filter::TopP) {
        for p in [0.3, 0.5] {
            let name = format!("12 close logits, top-k 4 then top-p {p}");
            suite.distribution(Defect::UnrenormalisedCut, &name, &flat, &plain.top_k(4).top_p(p));
        }
    }

    suite.distribution(Defect::DrawsMasked, "3 of 4 logits are -inf", &row(&[masked, masked, 1.0, masked]), &plain);
    suite.distribution(Defect::WrongSupport, "one logit of 1e30", &row(&[0.0, far, 1.0]), &plain);
    suite.distribution(Defect::WrongSupport, "all logits are -1e30", &row(&[-far; 4]), &plain);
    suite.vocabulary(&plain);
    suite.repeats(&flat, &plain);

    for (name, settings) in [("", plain), (", greedy", greedy)] {
        for (what, values) in [("first", [f64::NAN, 1.0, 2.0]), ("last", [1.0, 2.0, f64::NAN]), ("only", [f64::NAN; 3])]
        {
            suite.refuses(Defect::AcceptsNan, &format!("NaN {what}{name}"), &row(&values), &settings);
        }
        suite.refuses(Defect::AcceptsNothing, &format!("all -inf{name}"), &row(&[masked; 3]), &settings);
        suite.refuses(Defect::AcceptsNothing, &format!("no logits{name}"), &[], &settings);
    }
    suite.report
}

type Run<'f, E> = &'f mut dyn FnMut(&[E], &SamplerConfig, u64) -> Result<u32, Failure>;

struct Sampling<'f, E> {
    report: Report,
    run: Run<'f, E>,
}

impl<E: Element> Sampling<'_, E> {
    /// Counts the draws of each token. Returns `None` if a draw fails.
    fn counts(&mut self, name: &str, logits: &[E], settings: &SamplerConfig, draws: u64) -> Option<BTreeMap<u32, u64>> {
        self.report.checks += 1;
        let mut counts = BTreeMap::new();
        for seed in 0..draws {
            match (self.run)(logits, settings, seed) {
                Ok(token) => *counts.entry(token).or_default() += 1,
                Err(failure) => {
                    self.report.fail(name, failure);
                    return None;
                }
            }
        }
        Some(counts)
    }

    /// Checks that only the tokens kept by the filters are drawn, each as often as its probability requires.
    fn distribution(&mut self, defect: Defect, name: &str, logits: &[E], settings: &SamplerConfig) {
        let Ok(support) = reference::sample(logits, settings) else { return };
        let Some(counts) = self.counts(name, logits, settings, DRAWS) else { return };
        let is_masked = |token: &&u32| logits.get(**token as usize).is_none_or(|z| z.widen() == f64::NEG_INFINITY);
        if let Some(token) = counts.keys().find(is_masked) {
            let what = format!("token {token} is drawn although it is masked");
            return self.report.find(Defect::DrawsMasked, name, what, f64::INFINITY);
        }
        let outside: Vec<u32> = counts.keys().copied().filter(|token| !support.tokens.contains(token)).collect();
        if !outside.is_empty() {
            let what = format!("draws {outside:?}, but the filters keep only {:?}", support.tokens);
            return self.report.find(defect, name, what, f64::INFINITY);
        }
        for (token, p) in support.tokens.iter().zip(support.probs) {
            let drawn = counts.get(token).copied().unwrap_or(0);
            let expected = p * DRAWS as f64;
            let off = (drawn as f64 - expected).abs();
            if off > 6.0 * (expected * (1.0 - p)).sqrt() + 1.0 {
                let what = format!("token {token} is drawn {drawn} of {DRAWS} times, expected {expected:.0}");
                let defect = if drawn == 0 { defect } else { Defect::WrongDistribution };
                return self.report.find(defect, name, what, f64::INFINITY);
            }
        }
    }

    /// Checks that both halves of a large vocabulary are drawn. A running sum of probabilities in a narrow type stops
    /// growing, and then later tokens are never drawn.
    fn vocabulary(&mut self, settings: &SamplerConfig) {
        let (name, n) = ("131072 equal logits", 131_072);
        let logits = vec![E::from_wide(1.0); n as usize];
        let Some(counts) = self.counts(name, &logits, settings, 48) else { return };
        let upper: u64 = counts.range(n / 2..).map(|(_, count)| count).sum();
        if !(6..=42).contains(&upper) {
            let what = format!("{upper} of 48 draws are in the upper half of the vocabulary");
            self.report.find(Defect::NarrowSum, name, what, f64::INFINITY);
        }
    }

    fn repeats(&mut self, logits: &[E], settings: &SamplerConfig) {
        let name = "12 close logits, each of 32 seeds twice";
        let mut draw = |seed| (self.run)(logits, settings, seed).ok();
        let differing = (0..32).filter(|&seed| draw(seed) != draw(seed)).count();
        self.report.checks += 1;
        if differing > 0 {
            let what = format!("{differing} seeds give a different token in the second draw");
            self.report.find(Defect::NotRepeatable, name, what, f64::INFINITY);
        }
    }

    fn refuses(&mut self, defect: Defect, name: &str, logits: &[E], settings: &SamplerConfig) {
        self.report.checks += 1;
        match (self.run)(logits, settings, 1) {
            Err(Failure::Refused(_)) => {}
            Err(panicked) => self.report.fail(name, panicked),
            Ok(token) => self.report.find(defect, name, format!("returns token {token}, not an error"), f64::INFINITY),
        }
    }
}
