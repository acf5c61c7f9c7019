//! Sampling of a token for each row of logits. A row from which no token can be drawn yields an error with the reason.

mod distribution;
mod sequence;
mod speculative;

use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{Mask, Resolved};
use crate::math::sum::MAX_TERMS;
use crate::report;
use crate::rows::Rows;
use crate::sampler::{FromLeft, OP};
use crate::simd::reserve;

pub use crate::sampler::{Draw, Left, LeftLogits, Profile, Request, Requests, Sampled, Sampler, SamplerConfig, Step};
pub use distribution::Distribution;
pub use sequence::Sequence;
pub use speculative::Verified;

impl Sampler {
    /// Draws a token from one row of logits.
    ///
    /// `step` may be a [`Draw`], which converts to a [`Step`] with defaults for everything else.
    ///
    /// # Formula
    /// ```text
    /// p_i = e^((z_i - max) / temperature) / sum_j e^((z_j - max) / temperature)   over the kept tokens j
    /// ```
    /// The kept tokens, in order of index, divide \[0, 1) into intervals of length p_i. The token whose interval
    /// contains a random number is drawn.
    ///
    /// The bias of the [`Step`] and the penalties change logits in f32, or in f64 if the logits are f64, and every
    /// operation is rounded to that type. First the bias is added. Then the logit is divided or multiplied by the
    /// repetition penalty, and the frequency and presence penalties are subtracted.
    ///
    /// # Shapes
    /// `logits` is `[vocabulary]`; the token is an index into it.
    ///
    /// # Special values
    /// | row | result |
    /// |---|---|
    /// | a NaN | [`Error::NonFiniteInput`] with the index of the NaN |
    /// | +inf | uniform over the tokens with +inf, regardless of the filters |
    /// | all -inf | [`Error::EmptySupport`] |
    /// | no tokens | [`Error::EmptyInput`] |
    ///
    /// # Accuracy
    /// Filters and draws represent probabilities by integers, in units of 2^-45 of the largest probability. A larger
    /// logit never has a smaller integer. The distribution of a draw is within 2^-24.6 of the exact distribution in
    /// total variation. Vocabularies of more than 262,144 tokens use units of 2^-42. The distribution of their draws is
    /// within 2^-21.8.
    ///
    /// These bounds hold for f32, f16 and bf16 rows at any temperature. For f64 rows they require that all differences
    /// from the largest logit are finite, and that 1 / temperature is finite and normal.
    ///
    /// Log-probabilities are f64. The error is at most 6 ULP, plus n e^-700 in a row of n tokens. The unit is the ULP
    /// of the log-probability or of the entropy of the kept tokens, whichever is larger in magnitude. For rows of every
    /// type, this bound requires the conditions that are stated above for f64 rows. All bounds treat a dynamic
    /// temperature as exact. `docs/accuracy/sampling.md` derives the bounds.
    ///
    /// # Errors
    /// The errors in the table above; [`Error::InvalidArgument`] for more than 2^21 tokens, and for a feedback that is
    /// not finite if mirostat or adaptive-p is used; [`Error::InvalidArgument`] for a token of the [`Step`] that is not
    /// in the vocabulary, if the sampler has penalties or the step has biases, bad words or allowed tokens;
    /// [`Error::ShapeMismatch`] if [`Step::allowed`] has too few words for the vocabulary; [`Error::Unavailable`] if
    /// the requested instruction set is unavailable.
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
        each_row(row, checked(&row, None)?, &|_| Request { sampler: self, step }, &mut out)?;
        let [sampled] = out;
        sampled
    }

    /// Returns the distribution from which a row's token is drawn at a step.
    ///
    /// Any number of tokens can be drawn from the distribution. The bias of a mask is added before the division by the
    /// temperature.
    ///
    /// # Errors
    /// The errors of [`Sampler::sample`], and [`Error::ShapeMismatch`] for a [`Mask`] that does not fit the logits.
    pub fn distribution<'a, E: Element>(
        &self,
        logits: &[E],
        mask: Option<&Mask<'_>>,
        step: impl Into<Step<'a>>,
    ) -> Result<Distribution> {
        let (row, step) = (Rows::shaped(logits, &[logits.len()])?, step.into());
        let mut out = [Ok(Distribution::NONE)];
        each_row(row, checked(&row, mask)?, &|_| Request { sampler: self, step }, &mut out)?;
        let [distribution] = out;
        distribution
    }

    /// Draws a token from each row. Row i uses `steps[i]`, which is a [`Draw`] or a [`Step`].
    ///
    /// A row that cannot be sampled has an error as its result. The other rows are not affected.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless there is one step for each row; [`Error::EmptyInput`] if the rows have no
    /// tokens. The result of a row can be any error of [`Sampler::sample`].
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

    /// Returns the distribution of each row at its step; see [`Sampler::distribution`].
    ///
    /// # Errors
    /// The errors of [`Sampler::sample_rows`].
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
        each_row(logits, mask, &request, &mut out)?;
        Ok(out)
    }
}

/// Draws a token from each row, with the parameters of the row's [`Request`]; see [`Sampler::sample_rows`].
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
/// The errors of [`Sampler::sample_rows`].
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

/// Draws a token from each row as [`sample_rows`] does, and writes the results to a reusable list.
///
/// `request` returns the parameters and the step of a row. Once the list and the buffers of the calling thread are
/// large enough, further calls do not allocate.
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
///         let sampled = sampled.as_ref().expect("the logits must be finite");
///         sequence.accept_sampled(sampled);
///         assert_eq!(sampled.token, expected);
///     }
/// }
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// # Errors
/// The errors of [`Sampler::sample_rows`]. If the call returns an error, the list is empty.
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
    each_row(logits, mask, &request, out).inspect_err(|_| out.clear())
}

fn one_for_each<E: Element>(logits: &Rows<'_, E>, steps: usize) -> Result<()> {
    if steps == logits.rows() {
        return Ok(());
    }
    let expected = format!("one for each of {} rows", logits.rows());
    Err(Error::shape(OP, "steps", format!("{steps} entries"), expected))
}

/// Checks the rows and the mask of a call, and resolves the mask.
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

fn each_row<E: Element, T: FromLeft>(
    logits: Rows<'_, E>,
    mask: Option<Resolved<'_>>,
    requests: &Requests<'_, '_>,
    out: &mut [Result<T>],
) -> Result<()> {
    if logits.rows() == 0 {
        return Ok(());
    }
    report::record(OP, E::samples(logits, mask, requests, out)?);
    Ok(())
}
