//! Translation of a configuration into filters in the order of its profile.

use super::OP;
use super::config::SamplerConfig;
use super::feedback::Feedback;
use super::profile::{Beyond, Coldest, Penalties, Rules, Stage, Threshold};
use crate::error::{Error, Result};

/// Filter for the candidates of a row, with checked parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filter {
    /// Selection of the token with the largest logit. Among equal logits, the lowest index is selected.
    Greedy,
    Temperature(f64),
    DynamicTemperature {
        low: f64,
        high: f64,
        exponent: f64,
    },
    TopK {
        k: usize,
        keeps_equals: bool,
    },
    TopP {
        p: f64,
        highest_first: bool,
        of_all: bool,
    },
    MinP(f64),
    Typical {
        p: f64,
        keeps_equals: bool,
    },
    TopNSigma(f64),
    Epsilon(f64),
    Eta(f64),
    Xtc {
        probability: f64,
        threshold: f64,
    },
}

impl Filter {
    /// Returns the parameter that turns the filter on, and its value.
    pub fn parameter(&self) -> (&'static str, String) {
        match *self {
            Filter::Greedy => ("temperature", "0".into()),
            Filter::Temperature(temperature) => ("temperature", temperature.to_string()),
            Filter::DynamicTemperature { low, high, .. } => ("dynamic_temperature", ((high - low) / 2.0).to_string()),
            Filter::TopK { k, .. } => ("top_k", k.to_string()),
            Filter::TopP { p, .. } => ("top_p", p.to_string()),
            Filter::MinP(p) => ("min_p", p.to_string()),
            Filter::Typical { p, .. } => ("typical_p", p.to_string()),
            Filter::TopNSigma(n) => ("top_n_sigma", n.to_string()),
            Filter::Epsilon(epsilon) => ("epsilon_cutoff", epsilon.to_string()),
            Filter::Eta(eta) => ("eta_cutoff", eta.to_string()),
            Filter::Xtc { probability, .. } => ("xtc_probability", probability.to_string()),
        }
    }
}

/// Filters of a checked configuration, in the order in which they run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub filters: Vec<Filter>,
    pub min_keep: usize,
    pub feedback: Option<Feedback>,
}

/// Smallest positive normal f64. It replaces a top-p of 0 or below in profiles where such a value keeps as few tokens
/// as possible.
const LEAST: f64 = f64::MIN_POSITIVE;
/// Largest decay of adaptive-p, as in llama.cpp.
const MOST_DECAY: f64 = 0.99;

impl Plan {
    pub fn new(config: &SamplerConfig) -> Result<Self> {
        let checked = Checked { config, rules: config.profile.rules() };
        checked.has_what_is_set()?;
        checked.penalties()?;
        if config.min_keep == 0 && !checked.rules.is_lenient {
            return checked.refuse("min_keep", 0, "at least 1");
        }
        let mut filters = Vec::new();
        for stage in checked.rules.order {
            filters.extend(match stage {
                Stage::Temperature => checked.temperature()?,
                Stage::TopK => checked.top_k()?,
                Stage::TopP => checked.top_p()?,
                Stage::MinP => checked.min_p()?,
                Stage::Typical => checked.typical()?,
                Stage::TopNSigma => checked.top_n_sigma()?,
                Stage::Epsilon => checked.cutoff("epsilon_cutoff", config.epsilon_cutoff)?.map(Filter::Epsilon),
                Stage::Eta => checked.cutoff("eta_cutoff", config.eta_cutoff)?.map(Filter::Eta),
                Stage::Xtc => checked.xtc()?,
            });
        }
        let feedback = checked.feedback()?;
        if config.mirostat != 0 && !checked.rules.is_lenient {
            checked.has_only_temperature(&filters)?;
        }
        Ok(Plan { filters, min_keep: config.min_keep.max(1), feedback })
    }
}

/// Configuration that is being checked, with the rules of its profile.
struct Checked<'a> {
    config: &'a SamplerConfig,
    rules: &'static Rules,
}

impl Checked<'_> {
    fn refuse<T>(&self, argument: &'static str, value: impl ToString, expected: impl Into<String>) -> Result<T> {
        Err(Error::invalid(OP, argument, value, expected))
    }

    /// Rejects parameters that the engine of the profile does not have.
    fn has_what_is_set(&self) -> Result<()> {
        let (c, rules) = (self.config, self.rules);
        let set = |v: Option<f64>| v.map(|v| v.to_string());
        let unless = |v: f64, neutral: f64| (v != neutral).then(|| v.to_string());
        let counted = !matches!(rules.penalties, Penalties::Repetition);
        let has = |stage| rules.order.contains(&stage);
        let number = |v: u32| (v != 0).then(|| v.to_string());
        let parameters = [
            ("dynamic_temperature", unless(c.dynamic_temperature, 0.0), rules.has_dynamic_temperature),
            ("min_p", set(c.min_p), has(Stage::MinP)),
            ("typical_p", set(c.typical_p), has(Stage::Typical)),
            ("top_n_sigma", set(c.top_n_sigma), has(Stage::TopNSigma)),
            ("epsilon_cutoff", set(c.epsilon_cutoff), has(Stage::Epsilon)),
            ("eta_cutoff", set(c.eta_cutoff), has(Stage::Eta)),
            ("xtc_probability", unless(c.xtc_probability, 0.0), has(Stage::Xtc)),
            ("min_keep", (c.min_keep != 1).then(|| c.min_keep.to_string()), rules.has_min_keep),
            ("presence_penalty", unless(c.presence_penalty, 0.0), counted),
            ("frequency_penalty", unless(c.frequency_penalty, 0.0), counted),
            ("penalty_window", c.penalty_window.map(|n| n.to_string()), rules.has_window),
            ("dry_multiplier", unless(c.dry_multiplier, 0.0), rules.has_dry),
            ("mirostat", number(c.mirostat), rules.has_feedback),
            ("adaptive_target", set(c.adaptive_target), rules.has_feedback),
        ];
        for (argument, value, is_there) in parameters {
            if let Some(value) = value.filter(|_| !is_there) {
                return self.refuse(
                    argument,
                    value,
                    format!("left unset: the {} profile does not support it", rules.name),
                );
            }
        }
        Ok(())
    }

    /// With mirostat, rejects `min_keep`, adaptive-p, and every filter other than the temperature.
    fn has_only_temperature(&self, filters: &[Filter]) -> Result<()> {
        let is_temperature = |filter: &&Filter| matches!(filter, Filter::Greedy | Filter::Temperature(_));
        let replaced = match filters.iter().find(|filter| !is_temperature(filter)) {
            Some(filter) => Some(filter.parameter()),
            None if self.config.min_keep != 1 => Some(("min_keep", self.config.min_keep.to_string())),
            None => self.config.adaptive_target.map(|target| ("adaptive_target", target.to_string())),
        };
        match replaced {
            Some((argument, value)) => self.refuse(argument, value, "left unset with mirostat"),
            None => Ok(()),
        }
    }

    fn penalties(&self) -> Result<()> {
        let (c, is_lenient) = (self.config, self.rules.is_lenient);
        if !(c.repetition_penalty.is_finite() && c.repetition_penalty > 0.0) {
            return self.refuse("repetition_penalty", c.repetition_penalty, "finite and above 0");
        }
        for (argument, value) in [("presence_penalty", c.presence_penalty), ("frequency_penalty", c.frequency_penalty)]
        {
            let most = self.rules.most_penalty;
            if !(-most..=most).contains(&value) {
                let expected = if most == f64::MAX { "finite".into() } else { format!("in [-{most}, {most}]") };
                return self.refuse(argument, value, expected);
            }
        }
        for (argument, window) in [("penalty_window", c.penalty_window), ("dry_window", c.dry_window)] {
            if window == Some(0) && !is_lenient {
                return self.refuse(argument, 0, "at least 1");
            }
        }
        if !(c.dry_multiplier.is_finite() && c.dry_multiplier >= 0.0) {
            return self.refuse("dry_multiplier", c.dry_multiplier, "finite and not negative");
        }
        if !(c.dry_base.is_finite() && (is_lenient || c.dry_base >= 1.0)) {
            let expected = if is_lenient { "finite" } else { "finite and at least 1" };
            return self.refuse("dry_base", c.dry_base, expected);
        }
        Ok(())
    }

    fn temperature(&self) -> Result<Option<Filter>> {
        let (t, range, exponent) =
            (self.config.temperature, self.config.dynamic_temperature, self.config.dynamic_exponent);
        let expected = match self.rules.coldest {
            Coldest::Refused => "finite and above 0",
            Coldest::Greedy { .. } => "finite and not negative",
            Coldest::GreedyBelow(_) => "finite",
        };
        let is_greedy = match self.rules.coldest {
            Coldest::Refused => false,
            Coldest::Greedy { .. } => t == 0.0,
            Coldest::GreedyBelow(least) => t < least || t <= 0.0,
        };
        if !t.is_finite() || (t <= 0.0 && !is_greedy) {
            return self.refuse("temperature", t, expected);
        }
        for (argument, value, may_be_low) in
            [("dynamic_temperature", range, self.rules.is_lenient), ("dynamic_exponent", exponent, false)]
        {
            if !(value.is_finite() && (may_be_low || value >= 0.0)) {
                let expected = if may_be_low { "finite" } else { "finite and not negative" };
                return self.refuse(argument, value, expected);
            }
        }
        if range > 0.0 {
            return Ok(Some(Filter::DynamicTemperature {
                low: (t - range).max(0.0),
                high: (t + range).min(f64::MAX),
                exponent,
            }));
        }
        if is_greedy {
            return Ok(Some(Filter::Greedy));
        }
        let least = if let Coldest::Greedy { least } = self.rules.coldest { least } else { 0.0 };
        Ok(Some(Filter::Temperature(t.max(least))))
    }

    fn top_k(&self) -> Result<Option<Filter>> {
        match self.config.top_k {
            None => Ok(None),
            Some(0) if self.rules.top_k_zero == Beyond::Off => Ok(None),
            Some(0) => self.refuse("top_k", 0, "at least 1"),
            Some(k) => {
                let k = k.max(self.config.min_keep);
                Ok(Some(Filter::TopK { k, keeps_equals: self.rules.top_k_keeps_equals }))
            }
        }
    }

    fn top_p(&self) -> Result<Option<Filter>> {
        let rules = self.rules;
        let Some(p) = self.config.top_p else { return Ok(None) };
        let meaning = if p < 0.0 {
            rules.top_p_negative
        } else if p == 0.0 {
            rules.top_p_zero
        } else if p > 1.0 {
            rules.top_p_above_one
        } else {
            Beyond::Least
        };
        if p.is_nan() || meaning == Beyond::Refused {
            let expected = match (rules.top_p_negative, rules.top_p_zero) {
                (Beyond::Refused, Beyond::Refused) => "in (0, 1]",
                (Beyond::Refused, _) => "not negative",
                _ => "a number",
            };
            return self.refuse("top_p", p, expected);
        }
        if p == 1.0 || meaning == Beyond::Off {
            return Ok(None);
        }
        let p = match rules.top_p_threshold {
            Threshold::Plain => p,
            Threshold::OneLess => 1.0 - f64::from((1.0 - p) as f32),
            Threshold::OneLessInF32 => 1.0 - f64::from(1.0 - p as f32),
        };
        let p = if p <= 0.0 { LEAST } else { p };
        Ok(Some(Filter::TopP { p, highest_first: rules.top_p_highest_first, of_all: rules.top_p_of_all }))
    }

    fn min_p(&self) -> Result<Option<Filter>> {
        let Some(p) = self.config.min_p else { return Ok(None) };
        let is_strict = self.rules.min_p_negative == Beyond::Refused;
        if p.is_nan() || is_strict && !(0.0..=1.0).contains(&p) {
            return self.refuse("min_p", p, if is_strict { "in [0, 1]" } else { "a number" });
        }
        Ok((p > 0.0).then_some(Filter::MinP(p)))
    }

    fn typical(&self) -> Result<Option<Filter>> {
        let Some(p) = self.config.typical_p else { return Ok(None) };
        let may_be_low = self.rules.typical_zero == Beyond::Least;
        let may_be_high = self.rules.top_p_above_one == Beyond::Off;
        if p.is_nan() || p <= 0.0 && !may_be_low || p > 1.0 && !may_be_high {
            let expected = match (may_be_low, may_be_high) {
                (false, false) => "in (0, 1]",
                (false, true) => "above 0",
                _ => "a number",
            };
            return self.refuse("typical_p", p, expected);
        }
        let keeps_equals = self.rules.typical_keeps_equals;
        Ok((p < 1.0).then_some(Filter::Typical { p: p.max(0.0), keeps_equals }))
    }

    fn top_n_sigma(&self) -> Result<Option<Filter>> {
        match self.config.top_n_sigma {
            Some(n) if n <= 0.0 && self.rules.top_n_sigma_zero == Beyond::Off => Ok(None),
            Some(n) if !(n.is_finite() && n > 0.0) => self.refuse("top_n_sigma", n, "finite and above 0"),
            n => Ok(n.map(Filter::TopNSigma)),
        }
    }

    /// Returns the configured mirostat or adaptive-p, if any.
    fn feedback(&self) -> Result<Option<Feedback>> {
        let (c, is_lenient) = (self.config, self.rules.is_lenient);
        if c.mirostat > 2 {
            return self.refuse("mirostat", c.mirostat, "0, 1 or 2");
        }
        let expected = if is_lenient { "finite" } else { "finite and not negative" };
        for (argument, value) in [("mirostat_tau", c.mirostat_tau), ("mirostat_eta", c.mirostat_eta)] {
            if !(value.is_finite() && (is_lenient || value >= 0.0)) {
                return self.refuse(argument, value, expected);
            }
        }
        let decay = if is_lenient { c.adaptive_decay.clamp(0.0, MOST_DECAY) } else { c.adaptive_decay };
        if !(0.0..=MOST_DECAY).contains(&decay) {
            return self.refuse("adaptive_decay", decay, format!("in [0, {MOST_DECAY}]"));
        }
        if let Some(target) = c.adaptive_target
            && !(target.is_finite() && (is_lenient || (0.0..=1.0).contains(&target)))
        {
            return self.refuse("adaptive_target", target, if is_lenient { "finite" } else { "in [0, 1]" });
        }
        let (tau, eta) = (c.mirostat_tau, c.mirostat_eta);
        let adaptive = || {
            let target = c.adaptive_target.filter(|target| *target >= 0.0)?;
            Some(Feedback::AdaptiveP { target, decay })
        };
        Ok(match c.mirostat {
            0 => adaptive(),
            1 => Some(Feedback::MirostatTopK { tau, eta }),
            _ => Some(Feedback::MirostatSurprise { tau, eta }),
        })
    }

    fn cutoff(&self, argument: &'static str, value: Option<f64>) -> Result<Option<f64>> {
        match value {
            Some(v) if !(0.0..1.0).contains(&v) => self.refuse(argument, v, "in [0, 1)"),
            v => Ok(v.filter(|v| *v > 0.0)),
        }
    }

    fn xtc(&self) -> Result<Option<Filter>> {
        let (mut probability, mut threshold) = (self.config.xtc_probability, self.config.xtc_threshold);
        if self.rules.is_lenient {
            if threshold > 0.5 {
                probability = probability.min(0.0);
            }
            (probability, threshold) = (probability.clamp(0.0, 1.0), threshold.clamp(0.0, 0.5));
        }
        if !(0.0..=1.0).contains(&probability) {
            return self.refuse("xtc_probability", probability, "in [0, 1]");
        }
        if !(0.0..=0.5).contains(&threshold) {
            return self.refuse("xtc_threshold", threshold, "in [0, 0.5]");
        }
        // The sum turns -0 into 0.
        Ok((probability > 0.0).then_some(Filter::Xtc { probability, threshold: threshold + 0.0 }))
    }
}
