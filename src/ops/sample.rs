//! Sampling: a token or a reason.

use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{Mask, Resolved};
use crate::math::philox::philox4x32;
use crate::math::sum::MAX_TERMS;
use crate::report::{self, Counts};
use crate::rows::Rows;

const OP: &str = "sample";

/// What to draw with: temperature, then top-k, then top-p, then min-p, each on what the one before left.
///
/// Filters that are not set do nothing. [`SamplerConfig::validate`] checks the parameters once a request.
///
/// ```
/// use evenkeel::{Draw, SamplerConfig};
/// let sampler = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).validate()?;
/// let logits = [1.0f32, 3.0, 2.0];
/// let sampled = sampler.sample(&logits, Draw { seed: 1, row: 0, draw: 0 })?;
/// assert!(sampled.token < 3);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SamplerConfig {
    /// Divides the logits. Finite, not negative; 1 by default. 0 is greedy: the largest logit, the lowest index among
    /// equals.
    pub temperature: f64,
    /// Keeps the k tokens that come first when ordered by logit, and by index among equals. At least 1; k above the
    /// vocabulary keeps all.
    pub top_k: Option<usize>,
    /// Keeps the shortest prefix in that order whose mass is at least p of what top-k left. In (0, 1].
    pub top_p: Option<f64>,
    /// Keeps tokens at least min_p times as probable as the most probable one. In \[0, 1\].
    pub min_p: Option<f64>,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        SamplerConfig { temperature: 1.0, top_k: None, top_p: None, min_p: None }
    }
}

impl SamplerConfig {
    /// Sets [`SamplerConfig::temperature`].
    pub fn temperature(self, temperature: f64) -> Self {
        Self { temperature, ..self }
    }

    /// Sets [`SamplerConfig::top_k`].
    pub fn top_k(self, k: usize) -> Self {
        Self { top_k: Some(k), ..self }
    }

    /// Sets [`SamplerConfig::top_p`].
    pub fn top_p(self, p: f64) -> Self {
        Self { top_p: Some(p), ..self }
    }

    /// Sets [`SamplerConfig::min_p`].
    pub fn min_p(self, p: f64) -> Self {
        Self { min_p: Some(p), ..self }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the parameter, its value and its range.
    pub fn validate(self) -> Result<Sampler> {
        let refuse = |argument, value: f64, range| Err(Error::invalid(OP, argument, value, range));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", self.temperature, "finite and not negative");
        }
        if self.top_k == Some(0) {
            return refuse("top_k", 0.0, "at least 1");
        }
        if let Some(p) = self.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return refuse("top_p", p, "in (0, 1]");
        }
        if let Some(p) = self.min_p.filter(|p| !(*p >= 0.0 && *p <= 1.0)) {
            return refuse("min_p", p, "in [0, 1]");
        }
        Ok(Sampler { config: self })
    }
}

/// Which random number a draw takes: the same three numbers give the same token from the same row, alone or in a
/// batch, on any machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Draw {
    /// The request's seed.
    pub seed: u64,
    /// The row, or whatever tells sequences of one seed apart.
    pub row: u64,
    /// The step.
    pub draw: u64,
}

impl Draw {
    /// 64 random bits: Philox4x32-10 of (draw, row) under the seed.
    pub(crate) fn bits(self) -> u64 {
        let halves = |v: u64| [v as u32, (v >> 32) as u32];
        let ([d0, d1], [r0, r1]) = (halves(self.draw), halves(self.row));
        let words = philox4x32([d0, d1, r0, r1], halves(self.seed));
        u64::from(words[0]) | u64::from(words[1]) << 32
    }
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sampled {
    /// The token's index.
    pub token: u32,
    /// The logarithm of its probability among what the filters kept.
    pub logprob: f64,
    /// How many tokens the filters kept.
    pub kept: usize,
}

/// A checked [`SamplerConfig`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    config: SamplerConfig,
}

impl Sampler {
    /// The parameters.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Draws a token from one row of logits.
    ///
    /// # Formula
    /// ```text
    /// p_i = e^((z_i - max) / temperature) / sum over the kept tokens of the same
    /// ```
    /// The token is the one in whose share of \[0, 1) a random number falls, the kept tokens in order of their index.
    ///
    /// # Shapes
    /// `logits` is `[vocabulary]`; the token is an index into it.
    ///
    /// # Special values
    /// | row | outcome |
    /// |---|---|
    /// | a NaN | [`Error::NonFiniteInput`] with its index |
    /// | +inf | uniform over the tokens that have it, whatever the filters |
    /// | all -inf | [`Error::EmptySupport`] |
    /// | no tokens | [`Error::EmptyInput`] |
    ///
    /// # Accuracy
    /// Cuts and draws go by integer masses, 2^-45 of the largest; a draw's distribution is within 2^-27 of the
    /// reported one in total variation for vocabularies to 262,144. Log-probabilities are f64, off by at most 4 ULP of
    /// the larger of themselves and the entropy of what was kept.
    ///
    /// # Errors
    /// The above; [`Error::InvalidArgument`] for more than 2^21 tokens; [`Error::Backend`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Source
    /// Top-p: Holtzman et al., "The curious case of neural text degeneration", 2020. Min-p: Nguyen et al., "Turning up
    /// the heat", 2024. The generator is Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    /// 2011.
    ///
    /// # Example
    /// ```
    /// use evenkeel::{Draw, Error, SamplerConfig};
    /// let sampler = SamplerConfig::default().temperature(0.0).validate()?;
    /// assert_eq!(sampler.sample(&[1.0f32, 3.0, 3.0], Draw::default())?.token, 1);
    /// let refused = sampler.sample(&[1.0f32, f32::NAN], Draw::default());
    /// assert!(matches!(refused, Err(Error::NonFiniteInput { index: 1, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn sample<E: Element>(&self, logits: &[E], draw: Draw) -> Result<Sampled> {
        self.distribution(logits, None).map(|distribution| distribution.draw(draw))
    }

    /// What one row can be drawn from, for draws and for its probabilities. A mask's bias is added before the
    /// temperature divides.
    ///
    /// # Errors
    /// As [`Sampler::sample`], and what [`Mask`] refuses.
    pub fn distribution<E: Element>(&self, logits: &[E], mask: Option<&Mask<'_>>) -> Result<Distribution> {
        let row = Rows::shaped(logits, &[logits.len()])?;
        self.distributions(row, mask)?.swap_remove(0)
    }

    /// Draws a token from each row; row i takes `draws[i]`. A row that can't be sampled does not stop the others.
    ///
    /// # Errors
    /// For the call: [`Error::ShapeMismatch`] unless there is a draw for each row, [`Error::EmptyInput`] for rows
    /// without tokens. For a row: as [`Sampler::sample`].
    pub fn sample_rows<E: Element>(
        &self,
        logits: Rows<'_, E>,
        mask: Option<&Mask<'_>>,
        draws: &[Draw],
    ) -> Result<Vec<Result<Sampled>>> {
        if draws.len() != logits.rows() {
            return Err(Error::shape(
                OP,
                "draws",
                format!("{} entries", draws.len()),
                format!("one for each of {} rows", logits.rows()),
            ));
        }
        self.each_row(logits, mask, |logits, mask| E::draws(logits, mask, &self.config, draws))
    }

    /// What each row can be drawn from.
    ///
    /// # Errors
    /// As [`Sampler::sample_rows`].
    pub fn distributions<E: Element>(
        &self,
        logits: Rows<'_, E>,
        mask: Option<&Mask<'_>>,
    ) -> Result<Vec<Result<Distribution>>> {
        self.each_row(logits, mask, |logits, mask| E::distributions(logits, mask, &self.config))
    }

    fn each_row<'m, E: Element, T>(
        &self,
        logits: Rows<'m, E>,
        mask: Option<&'m Mask<'m>>,
        run: impl FnOnce(Rows<'m, E>, Option<Resolved<'m>>) -> Result<(Vec<Result<T>>, Counts)>,
    ) -> Result<Vec<Result<T>>> {
        let mask = mask.filter(|m| !m.is_none()).map(|m| m.resolve(OP, &logits.geometry)).transpose()?;
        if logits.cols() > MAX_TERMS {
            return Err(Error::invalid(OP, "vocabulary", logits.cols(), format!("at most {MAX_TERMS}")));
        }
        if logits.rows() == 0 {
            return Ok(Vec::new());
        }
        if logits.cols() == 0 {
            return Err(Error::EmptyInput { op: OP });
        }
        let (rows, counts) = run(logits, mask)?;
        report::record(OP, counts);
        Ok(rows)
    }
}

/// What the filters left of a row: at least one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    vocabulary: usize,
    tokens: Vec<u32>,
    masses: Vec<u64>,
    total: u64,
    /// (logit - largest) / temperature, each.
    distances: Vec<f64>,
    log_sum: f64,
}

impl Distribution {
    pub(crate) fn new(
        vocabulary: usize,
        tokens: Vec<u32>,
        masses: Vec<u64>,
        distances: Vec<f64>,
        log_sum: f64,
    ) -> Self {
        let total = masses.iter().sum();
        Distribution { vocabulary, tokens, masses, total, distances, log_sum }
    }

    /// Every token alike.
    pub(crate) fn uniform(vocabulary: usize, tokens: Vec<u32>, log_count: f64) -> Self {
        let n = tokens.len();
        Distribution::new(vocabulary, tokens, vec![1; n], vec![0.0; n], log_count)
    }

    /// The tokens that can be drawn, in increasing order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The logarithm of each token's probability, in the order of [`Distribution::tokens`].
    pub fn logprobs(&self) -> impl Iterator<Item = f64> + '_ {
        self.distances.iter().map(|d| d - self.log_sum)
    }

    /// The probability of every token of the vocabulary, 0 for those that were removed.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn probs(&self) -> Result<Vec<f64>> {
        let kept = crate::exp(&self.logprobs().collect::<Vec<f64>>())?;
        let mut probs = vec![0.0; self.vocabulary];
        for (token, p) in self.tokens.iter().zip(kept) {
            probs[*token as usize] = p;
        }
        Ok(probs)
    }

    /// Draws a token.
    ///
    /// The draw's 64 bits, times the total mass, over 2^64, is a number below the total; the token is the first whose
    /// running sum exceeds it, so a token of mass 0 is never drawn.
    pub fn draw(&self, draw: Draw) -> Sampled {
        let at = ((u128::from(draw.bits()) * u128::from(self.total)) >> 64) as u64;
        let mut sum = 0;
        let reached = |mass: &u64| {
            sum += mass;
            sum > at
        };
        let index = self.masses.iter().position(reached).unwrap_or(0);
        Sampled { token: self.tokens[index], logprob: self.distances[index] - self.log_sum, kept: self.tokens.len() }
    }
}
