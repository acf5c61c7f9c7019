//! What to draw with.

use super::Sampler;
use super::plan::Plan;
use super::profile::Profile;
use crate::error::Result;
use crate::simd::in_default;

/// What to draw with. Filters that are not set do nothing.
///
/// Their order, and what they mean in the details on which engines differ, is the [`Profile`]'s; what is said below is
/// the default one's. [`SamplerConfig::validate`] checks the parameters once a request.
///
/// ```
/// use evenkeel::{Draw, SamplerConfig};
/// let sampler = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).validate()?;
/// let logits = [1.0f32, 3.0, 2.0];
/// let sampled = sampler.sample(&logits, Draw { seed: 1, row: 0, draw: 0 })?;
/// assert!(sampled.token < 3);
/// # Ok::<(), evenkeel::Error>(())
/// ```
/// With the feature `serde` it is read and written with its fields by name; those that are missing have their defaults,
/// and unknown ones are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct SamplerConfig {
    /// Whose order and details.
    pub profile: Profile,
    /// Divides the logits. Finite, not negative; 1 by default. 0 is greedy: the largest logit, the lowest index among
    /// equals.
    pub temperature: f64,
    /// How far the temperature moves to either side of itself with the entropy of what is left: with h the entropy over
    /// its largest, ln n, it is low + (high - low) h^exponent, low not below 0. Finite, not negative; 0 by default.
    pub dynamic_temperature: f64,
    /// The exponent of that. Finite, not negative; 1 by default.
    pub dynamic_exponent: f64,
    /// Keeps the k tokens that come first when ordered by logit, and by index among equals. At least 1; k above the
    /// vocabulary keeps all.
    pub top_k: Option<usize>,
    /// Keeps the shortest prefix in that order whose mass is at least p of what is left. In (0, 1].
    pub top_p: Option<f64>,
    /// Keeps tokens at least min_p times as probable as the most probable one. In \[0, 1\].
    pub min_p: Option<f64>,
    /// Keeps the tokens whose surprise, -ln p, is nearest to the entropy, the fewest whose mass is at least this much of
    /// what is left; all that are as near as the last of them. In (0, 1].
    pub typical_p: Option<f64>,
    /// Keeps logits within so many of their standard deviations of the largest, before any temperature. Finite, above
    /// 0.
    pub top_n_sigma: Option<f64>,
    /// Keeps tokens at least so probable, and the most probable ones. In \[0, 1).
    pub epsilon_cutoff: Option<f64>,
    /// The same with the smaller of eta and sqrt(eta) e^-entropy. In \[0, 1).
    pub eta_cutoff: Option<f64>,
    /// How probable it is that a draw excludes the top choices: of the tokens that are at least
    /// [`SamplerConfig::xtc_threshold`] probable all but the last in order. In \[0, 1\]; 0 by default.
    pub xtc_probability: f64,
    /// In \[0, 0.5\]; 0.1 by default.
    pub xtc_threshold: f64,
    /// Filters leave at least so many of the first tokens. At least 1, which is the default.
    pub min_keep: usize,
    /// Divides the positive logits and multiplies the negative ones of tokens that the sequence has, prompt and output.
    /// Finite, above 0; 1 by default.
    pub repetition_penalty: f64,
    /// Is taken off the logits of tokens that the output has. Finite; 0 by default.
    pub presence_penalty: f64,
    /// Is taken off the logits as often as the output has the token. Finite; 0 by default.
    pub frequency_penalty: f64,
    /// How many of the last tokens, of prompt and output, the penalties see; all, if it is not set. At least 1.
    pub penalty_window: Option<usize>,
    /// DRY: what is taken off the logit of a token that would prolong a repetition, times
    /// [`SamplerConfig::dry_base`] for each token that the repetition is longer than
    /// [`SamplerConfig::dry_allowed_length`]. Finite, not negative; 0 by default, which is off.
    pub dry_multiplier: f64,
    /// Finite, at least 1; 1.75 by default.
    pub dry_base: f64,
    /// 2 by default.
    pub dry_allowed_length: usize,
    /// How many of the last tokens, of prompt and output, are searched for repetitions; all, if it is not set. At least
    /// 1.
    pub dry_window: Option<usize>,
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
        }
    }
}

/// A method for each parameter that has one value.
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

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) naming the parameter, its value and its range, also
    /// for one that the profile's engine has not.
    pub fn validate(self) -> Result<Sampler> {
        Ok(Sampler { config: self, plan: in_default(|| Plan::new(&self))? })
    }
}
