//! Sampling: a token or a reason.

mod adjust;
mod config;
mod distribution;
mod dry;
mod plan;
mod profile;
mod sequence;
mod speculative;
mod step;

pub use adjust::{Adjustments, History, Part};
pub use config::SamplerConfig;
pub use distribution::{Distribution, Left, LeftLogits};
pub use plan::{Filter, Plan};
#[cfg(feature = "cuda")]
pub(crate) use profile::Penalties;
pub use profile::Profile;
pub use sequence::Sequence;
pub use speculative::Verified;
pub use step::{Draw, Sampled, Step};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{Mask, Resolved};
use crate::math::sum::MAX_TERMS;
use crate::report;
use crate::rows::Rows;
use crate::simd::reserve;

const OP: &str = "sample";

/// A checked [`SamplerConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    config: SamplerConfig,
    plan: Plan,
}

impl Sampler {
    /// The parameters.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// The parameters, and the filters that they come to.
    #[cfg(feature = "cuda")]
    pub(crate) fn parts(&self) -> (&SamplerConfig, &Plan) {
        (&self.config, &self.plan)
    }

    /// Draws a token from one row of logits. A [`Draw`] is a step that has nothing else.
    ///
    /// # Formula
    /// ```text
    /// p_i = e^((z_i - max) / temperature) / sum over the kept tokens of the same
    /// ```
    /// The token is the one in whose share of \[0, 1) a random number falls, the kept tokens in order of their index.
    /// What the step and the penalties do to logits is done in f32 (of f64 logits, in f64), each operation rounded: the
    /// bias is added, the repetition penalty divides or multiplies, frequency and presence are taken off.
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
    /// Cuts and draws compare integer masses, in units of 2^-45 of the largest. A larger logit never has a smaller mass. A
    /// draw's distribution is within 2^-24.6 of the exact one in total variation. Vocabularies of more than 262,144 tokens
    /// have units of 2^-42, and are within 2^-21.8. f32, f16 and bf16 rows have these bounds at any temperature. f64 rows
    /// have them where all differences from the largest logit and 1 / temperature are finite, and 1 / temperature is normal.
    ///
    /// Log-probabilities are f64, off by at most 6 ULP of the larger of their magnitude and the entropy of the kept tokens,
    /// plus e^-700 for each token. This holds for rows of any type on the condition stated for f64 rows. A dynamic
    /// temperature counts as computed. `docs/accuracy/sampling.md` derives these bounds.
    ///
    /// # Errors
    /// The above; [`Error::InvalidArgument`] for more than 2^21 tokens, and for a token of the step that the vocabulary
    /// has not; [`Error::ShapeMismatch`] for too few words of allowed tokens; [`Error::Backend`].
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
    pub fn sample<'a, E: Element>(&self, logits: &[E], step: impl Into<Step<'a>>) -> Result<Sampled> {
        let (row, step) = (Rows::shaped(logits, &[logits.len()])?, step.into());
        let mut out = [Ok(Sampled::NONE)];
        each_row(row, checked(&row, None)?, &|_| Request { sampler: self, step }, &mut out, |left| left.sampled())?;
        let [sampled] = out;
        sampled
    }

    /// What one row can be drawn from at a step, for draws and for its probabilities. A mask's bias is added before the
    /// temperature divides.
    ///
    /// # Errors
    /// As [`Sampler::sample`], and what [`Mask`] refuses.
    pub fn distribution<'a, E: Element>(
        &self,
        logits: &[E],
        mask: Option<&Mask<'_>>,
        step: impl Into<Step<'a>>,
    ) -> Result<Distribution> {
        let (row, step) = (Rows::shaped(logits, &[logits.len()])?, step.into());
        let mut out = [Ok(Distribution::NONE)];
        each_row(row, checked(&row, mask)?, &|_| Request { sampler: self, step }, &mut out, |left| {
            left.to_distribution()
        })?;
        let [distribution] = out;
        distribution
    }

    /// Draws a token from each row; row i takes `steps[i]`, a [`Draw`] or a [`Step`]. A row that can't be sampled does
    /// not stop the others.
    ///
    /// # Errors
    /// For the call: [`Error::ShapeMismatch`] unless there is a step for each row, [`Error::EmptyInput`] for rows
    /// without tokens. For a row: as [`Sampler::sample`].
    pub fn sample_rows<'a, E: Element>(
        &self,
        logits: Rows<'_, E>,
        mask: Option<&Mask<'_>>,
        steps: &[impl Copy + Sync + Into<Step<'a>>],
    ) -> Result<Vec<Result<Sampled>>> {
        one_for_each(&logits, steps.len())?;
        let mut out = Vec::new();
        sample_rows_into(logits, mask, |row| Request { sampler: self, step: steps[row].into() }, &mut out)?;
        Ok(out)
    }

    /// What each row can be drawn from at its step.
    ///
    /// # Errors
    /// As [`Sampler::sample_rows`].
    pub fn distributions<'a, E: Element>(
        &self,
        logits: Rows<'_, E>,
        mask: Option<&Mask<'_>>,
        steps: &[impl Copy + Sync + Into<Step<'a>>],
    ) -> Result<Vec<Result<Distribution>>> {
        one_for_each(&logits, steps.len())?;
        let mask = checked(&logits, mask)?;
        let mut out = reserve(OP, "the distributions", logits.rows())?;
        out.resize_with(logits.rows(), || Ok(Distribution::NONE));
        let request = |row: usize| Request { sampler: self, step: steps[row].into() };
        each_row(logits, mask, &request, &mut out, |left| left.to_distribution())?;
        Ok(out)
    }
}

/// What one row of a batch is to be sampled with.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its parameters.
    pub sampler: &'a Sampler,
    /// Its step.
    pub step: Step<'a>,
}

impl<'a> Request<'a> {
    pub(crate) fn parts(self) -> (&'a SamplerConfig, &'a Plan, Step<'a>) {
        (&self.sampler.config, &self.sampler.plan, self.step)
    }
}

/// Draws a token from each row, each with parameters of its own; see [`Sampler::sample_rows`].
///
/// ```
/// use evenkeel::{Draw, Request, Rows, SamplerConfig, Step, sample_rows};
/// let logits = [1.0f32, 3.0, 2.0, 1.0, 3.0, 2.0];
/// let (greedy, hot) = (SamplerConfig::default().temperature(0.0).validate()?, SamplerConfig::default().validate()?);
/// let step = |row| Step::from(Draw { seed: 7, row, draw: 0 });
/// let requests = [Request { sampler: &greedy, step: step(0) }, Request { sampler: &hot, step: step(1) }];
/// let tokens = sample_rows(Rows::new(&logits, 2, 3)?, None, &requests)?;
/// assert_eq!(tokens[0].as_ref().map(|sampled| sampled.token), Ok(1));
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// # Errors
/// As [`Sampler::sample_rows`].
pub fn sample_rows<E: Element>(
    logits: Rows<'_, E>,
    mask: Option<&Mask<'_>>,
    requests: &[Request<'_>],
) -> Result<Vec<Result<Sampled>>> {
    one_for_each(&logits, requests.len())?;
    let mut out = Vec::new();
    sample_rows_into(logits, mask, |row| requests[row], &mut out)?;
    Ok(out)
}

/// As [`sample_rows`], into a list that is kept from step to step: `request` gives each row's parameters and step. Once
/// the list and the thread's buffers have grown, one thread allocates nothing.
///
/// ```
/// use evenkeel::{Rows, SamplerConfig, Request, Sequence, sample_rows_into};
/// let logits = [1.0f32, 3.0, 2.0, 1.0, 3.0, 2.0];
/// let sampler = SamplerConfig::default().temperature(0.0).repetition_penalty(2.0).validate()?;
/// let mut sequences: Vec<Sequence> = (0..2).map(|row| sampler.sequence(7, &[]).row(row)).collect();
/// let mut drawn = Vec::new();
/// for expected in [1, 2] {
///     let request = |row: usize| Request { sampler: &sampler, step: sequences[row].step(None) };
///     sample_rows_into(Rows::new(&logits, 2, 3)?, None, request, &mut drawn)?;
///     for (sequence, sampled) in sequences.iter_mut().zip(&drawn) {
///         let token = sampled.as_ref().expect("finite logits").token;
///         sequence.accept(token);
///         assert_eq!(token, expected);
///     }
/// }
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// # Errors
/// As [`Sampler::sample_rows`]; the list is empty then.
pub fn sample_rows_into<'a, E: Element>(
    logits: Rows<'_, E>,
    mask: Option<&Mask<'_>>,
    request: impl Fn(usize) -> Request<'a> + Sync,
    out: &mut Vec<Result<Sampled>>,
) -> Result<()> {
    out.clear();
    let mask = checked(&logits, mask)?;
    if out.capacity() < logits.rows() {
        *out = reserve(OP, "the sampled tokens", logits.rows())?;
    }
    out.resize_with(logits.rows(), || Ok(Sampled::NONE));
    each_row(logits, mask, &request, out, |left| left.sampled()).inspect_err(|_| out.clear())
}

/// Each row's request.
pub type Requests<'r, 'a> = dyn Fn(usize) -> Request<'a> + Sync + 'r;

fn one_for_each<E: Element>(logits: &Rows<'_, E>, steps: usize) -> Result<()> {
    if steps == logits.rows() {
        return Ok(());
    }
    let expected = format!("one for each of {} rows", logits.rows());
    Err(Error::shape(OP, "steps", format!("{steps} entries"), expected))
}

/// Checks the rows and the mask of a call.
fn checked<'m, E: Element>(logits: &Rows<'_, E>, mask: Option<&'m Mask<'_>>) -> Result<Option<Resolved<'m>>> {
    let mask = mask.filter(|m| !m.is_none()).map(|m| m.resolve(OP, &logits.geometry)).transpose()?;
    if logits.cols() > MAX_TERMS {
        return Err(Error::invalid(OP, "vocabulary", logits.cols(), format!("at most {MAX_TERMS}")));
    }
    if logits.rows() > 0 && logits.cols() == 0 {
        return Err(Error::EmptyInput { op: OP });
    }
    Ok(mask)
}

fn each_row<E: Element, T: Send>(
    logits: Rows<'_, E>,
    mask: Option<Resolved<'_>>,
    requests: &Requests<'_, '_>,
    out: &mut [Result<T>],
    make: fn(Left<'_>) -> T,
) -> Result<()> {
    if logits.rows() == 0 {
        return Ok(());
    }
    report::record(OP, E::samples(logits, mask, requests, out, make)?);
    Ok(())
}
