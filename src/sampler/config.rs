//! Parameters of the sampler.

use super::Sampler;
use super::plan::Plan;
use super::profile::Profile;
use crate::error::Result;
use crate::simd::in_default;

/// Parameters of the sampler: temperature, filters and penalties.
///
/// Filters that are not set do nothing. Engines differ in the order of the filters and in details. The [`Profile`]
/// selects an engine's rules; its table has the order of the filters. Each filter uses the probabilities of the tokens
/// that earlier filters kept. These probabilities sum to 1. The fields are described for the default profile,
/// [`Profile::Evenkeel`]. [`SamplerConfig::validate`] checks the parameters once per request.
///
/// ```
/// use evenkeel::{Draw, SamplerConfig};
/// let sampler = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).validate()?;
/// let logits = [1.0f32, 3.0, 2.0];
/// let sampled = sampler.sample(&logits, Draw { seed: 1, row: 0, draw: 0 })?;
/// assert!(sampled.token < 3);
/// # Ok::<(), evenkeel::Error>(())
/// ```
/// With the feature `serde` the fields are serialised by name. Missing fields get their defaults, and unknown fields
/// are rejected.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct SamplerConfig {
    /// Engine whose rules apply, such as the order of the filters.
    pub profile: Profile,
    /// Divisor of the logits. Finite, not negative; 1 by default. 0 selects greedily: the token with the largest logit
    /// after the penalties, and the lowest index among equals. If
    /// [`dynamic_temperature`](SamplerConfig::dynamic_temperature) is set, the temperature of the row decides instead.
    pub temperature: f64,
    /// Half-width of the range of a dynamic temperature. Finite, not negative; 0, the default, turns it off.
    ///
    /// The temperature of a row is `low + (high - low) * h^dynamic_exponent`. Here `low` is
    /// `temperature - dynamic_temperature`, but at least 0, and `high` is `temperature + dynamic_temperature`. `h` is
    /// the entropy of the n remaining tokens, divided by ln n, the largest possible entropy of n tokens. A row
    /// temperature of 0 selects greedily. If n is 1, the temperature of the row does not matter.
    pub dynamic_temperature: f64,
    /// Exponent of `h` in the formula of the dynamic temperature. Finite, not negative; 1 by default.
    pub dynamic_exponent: f64,
    /// Number of tokens that top-k keeps. Top-k keeps the largest logits, and the lowest indices among equal logits. At
    /// least 1. If the number exceeds the vocabulary, all tokens stay.
    pub top_k: Option<usize>,
    /// Fraction of the remaining probability mass that top-p keeps. Above 0, at most 1. Tokens are ordered as for
    /// top-k, and the shortest prefix with at least this mass is kept.
    pub top_p: Option<f64>,
    /// Smallest probability to keep, relative to the largest probability. From 0 to 1.
    pub min_p: Option<f64>,
    /// Fraction of the remaining probability mass that typical sampling keeps. Above 0, at most 1.
    ///
    /// Tokens are ordered by the distance of their surprise, -ln p, from the entropy, nearest first. The shortest
    /// prefix with at least this mass is kept. Tokens at the same distance as the prefix's last token are kept too.
    pub typical_p: Option<f64>,
    /// Largest distance of a kept logit from the largest logit, in standard deviations of the remaining tokens' logits.
    /// No temperature is applied to these logits. The variance divides by the number of tokens. Finite, above 0.
    pub top_n_sigma: Option<f64>,
    /// Epsilon cutoff: smallest probability to keep. The first [`SamplerConfig::min_keep`] tokens in the order of top-k
    /// are always kept. Tokens that tie with the last of these tokens are kept too. At least 0, below 1.
    pub epsilon_cutoff: Option<f64>,
    /// Parameter eta of the eta cutoff. This filter is an epsilon cutoff at the smaller of `eta` and
    /// `sqrt(eta) * e^-entropy`. At least 0, below 1.
    pub eta_cutoff: Option<f64>,
    /// Probability that a draw excludes top choices (XTC). XTC orders the tokens with a probability of at least
    /// [`SamplerConfig::xtc_threshold`] as for top-k, and excludes all of them except the last. From 0 to 1; 0 by
    /// default.
    pub xtc_probability: f64,
    /// Smallest probability of a token that XTC may exclude. From 0 to 0.5; 0.1 by default.
    pub xtc_threshold: f64,
    /// Minimum number of tokens that a filter keeps. A filter that would keep fewer tokens keeps the first `min_keep`
    /// tokens in its own order. XTC is an exception: it then keeps all tokens. At least 1; 1 by default.
    pub min_keep: usize,
    /// Repetition penalty of tokens that occur in the prompt or the output. It divides their positive logits and
    /// multiplies their negative logits. Finite, above 0; 1 by default.
    pub repetition_penalty: f64,
    /// Number subtracted from the logits of tokens that occur in the output. Finite; 0 by default.
    pub presence_penalty: f64,
    /// Number subtracted from a logit for each occurrence of its token in the output. Finite; 0 by default.
    pub frequency_penalty: f64,
    /// Number of most recent tokens that the penalties consider, counted in prompt and output together. At least 1; if
    /// not set, all tokens.
    pub penalty_window: Option<usize>,
    /// Strength of DRY, which penalises tokens that would prolong a repetition. Finite, not negative; 0, the default,
    /// turns it off.
    ///
    /// DRY searches for the longest sequence of last tokens that occurred before, followed by the candidate. If the
    /// length L of this sequence is at least [`SamplerConfig::dry_allowed_length`], DRY subtracts
    /// `dry_multiplier * dry_base^(L - dry_allowed_length)` from the candidate's logit. The sequence has no
    /// [breakers](crate::Step::breakers). The exponent is limited so that the power is finite in f32.
    pub dry_multiplier: f64,
    /// Base of the DRY penalty. Finite, at least 1; 1.75 by default.
    pub dry_base: f64,
    /// Minimum length of the repeated sequence that DRY penalises, without the candidate; 2 by default. 0 also
    /// penalises every token of the window, except its first and breakers.
    pub dry_allowed_length: usize,
    /// Number of most recent tokens in which DRY searches for repetitions, counted in prompt and output together. At
    /// least 1; if not set, all tokens.
    pub dry_window: Option<usize>,
    /// Version of mirostat: 1 or 2; 0, the default, turns it off. Mirostat keeps the mean surprise of the drawn tokens
    /// near [`SamplerConfig::mirostat_tau`]. Mirostat runs after the temperature. All other filters, the dynamic
    /// temperature, `min_keep` and `adaptive_target` must have their defaults. Penalties still apply.
    ///
    /// The surprise of a token is -log2 of its probability. Version 2 keeps the tokens whose surprise is at most `mu`,
    /// except tokens whose integer probability (see [`Sampler::sample`]) is 0. Version 1 keeps the k largest logits. It
    /// fits p_i ~ i^-s to the 100 largest probabilities by least squares, and computes
    /// `k = (2^mu (s - 1) / (1 - n^(1 - s)))^(1/s)` for a vocabulary of n tokens, rounded down. Both versions
    /// keep at least one token.
    ///
    /// `mu` begins as `2 * mirostat_tau`. After each token, `mu` becomes
    /// `mu - mirostat_eta * (surprise - mirostat_tau)`. Here the surprise is -log2 of the token's probability among the
    /// kept tokens. [`Sequence`](crate::Sequence) carries `mu` from step to step. Without a sequence, pass each
    /// [`Sampled::feedback`](crate::Sampled::feedback) to the next step's
    /// [`Step::feedback`](crate::Step::feedback).
    pub mirostat: u32,
    /// Target tau of mirostat's mean surprise, in bits. Finite, not negative; 5 by default.
    pub mirostat_tau: f64,
    /// Learning rate eta of mirostat. Finite, not negative; 0.1 by default.
    pub mirostat_eta: f64,
    /// Target of adaptive-p, which prefers tokens whose probability is near the target. From 0 to 1; not set by
    /// default. Adaptive-p changes the probabilities after all filters.
    ///
    /// A running mean `m` covers the drawn tokens' original probabilities, before adaptive-p. `m` begins as
    /// `adaptive_target`. After a token of original probability `p`, `m` becomes `decay * m + (1 - decay) * p`. The
    /// target of a step is `t = 2 * adaptive_target - m`, clamped to the range from 0 to 1. A token of probability `p`
    /// gets the logit `5 - 10 * d^2 / (1 + d)`, with `d = |p - t| / 0.3`. `m` is carried from step to step like
    /// mirostat's `mu`.
    pub adaptive_target: Option<f64>,
    /// Decay of the mean of adaptive-p. From 0 to 0.99; 0.9 by default.
    pub adaptive_decay: f64,
    /// Whether draws compute [`Sampled::logprob`](crate::Sampled::logprob); true by default. If this is false,
    /// `Sampled::logprob` is NaN. On the CPU, a draw from all f32, f16 or bf16 logits then takes about a third of the
    /// time. Mirostat and adaptive-p need log-probabilities themselves, so they gain no time. A
    /// [`Distribution`](crate::Distribution) and the tokens drawn from it always have log-probabilities.
    pub logprob: bool,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        SamplerConfig {
            profile: Profile::default(),
            temperature: 1.0,
            dynamic_temperature: 0.0,
            dynamic_exponent: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            top_n_sigma: None,
            epsilon_cutoff: None,
            eta_cutoff: None,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            min_keep: 1,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: None,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_window: None,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            adaptive_target: None,
            adaptive_decay: 0.9,
            logprob: true,
        }
    }
}

/// Defines one setter for each of the listed parameters.
macro_rules! setters {
    ($($name:ident: $type:ty $(=> $some:ident)?),* $(,)?) => {
        $(
            #[doc = concat!("Sets [`SamplerConfig::", stringify!($name), "`].")]
            pub fn $name(self, $name: $type) -> Self {
                Self { $name: setters!(@value $name $($some)?), ..self }
            }
        )*
    };
    (@value $name:ident) => { $name };
    (@value $name:ident $some:ident) => { $some($name) };
}

impl SamplerConfig {
    setters! {
        profile: Profile,
        temperature: f64,
        top_k: usize => Some,
        top_p: f64 => Some,
        min_p: f64 => Some,
        typical_p: f64 => Some,
        top_n_sigma: f64 => Some,
        epsilon_cutoff: f64 => Some,
        eta_cutoff: f64 => Some,
        min_keep: usize,
        repetition_penalty: f64,
        presence_penalty: f64,
        frequency_penalty: f64,
        penalty_window: usize => Some,
        dry_window: usize => Some,
        logprob: bool,
    }

    /// Sets [`SamplerConfig::dynamic_temperature`] and [`SamplerConfig::dynamic_exponent`].
    pub fn dynamic_temperature(self, range: f64, exponent: f64) -> Self {
        Self { dynamic_temperature: range, dynamic_exponent: exponent, ..self }
    }

    /// Sets [`SamplerConfig::xtc_probability`] and [`SamplerConfig::xtc_threshold`].
    pub fn xtc(self, probability: f64, threshold: f64) -> Self {
        Self { xtc_probability: probability, xtc_threshold: threshold, ..self }
    }

    /// Sets [`SamplerConfig::dry_multiplier`], [`SamplerConfig::dry_base`] and [`SamplerConfig::dry_allowed_length`].
    pub fn dry(self, multiplier: f64, base: f64, allowed_length: usize) -> Self {
        Self { dry_multiplier: multiplier, dry_base: base, dry_allowed_length: allowed_length, ..self }
    }

    /// Sets [`SamplerConfig::mirostat`], [`SamplerConfig::mirostat_tau`] and [`SamplerConfig::mirostat_eta`].
    pub fn mirostat(self, version: u32, tau: f64, eta: f64) -> Self {
        Self { mirostat: version, mirostat_tau: tau, mirostat_eta: eta, ..self }
    }

    /// Sets [`SamplerConfig::adaptive_target`] and [`SamplerConfig::adaptive_decay`].
    pub fn adaptive_p(self, target: f64, decay: f64) -> Self {
        Self { adaptive_target: Some(target), adaptive_decay: decay, ..self }
    }

    /// Keeps the profile, the temperature, mirostat's parameters and `logprob`, and resets all others.
    fn with_mirostat_only(self) -> Self {
        let SamplerConfig { profile, temperature, logprob, .. } = self;
        SamplerConfig { profile, temperature, logprob, ..Self::default() }.mirostat(
            self.mirostat,
            self.mirostat_tau,
            self.mirostat_eta,
        )
    }

    /// Checks the parameters and returns the sampler.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) with the parameter, its value and its range. A
    /// parameter that the profile's engine does not have must keep its default.
    pub fn validate(self) -> Result<Sampler> {
        let plan = in_default(|| Plan::new(&self))?;
        if self.mirostat == 0 || !self.profile.rules().is_lenient {
            return Ok(Sampler { config: self, plan });
        }
        let alone = self.with_mirostat_only();
        Ok(Sampler { config: alone, plan: in_default(|| Plan::new(&alone))? })
    }
}
