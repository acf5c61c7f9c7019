//! Sampling on a device, with the request and the token lists of each row in the host's memory.

use super::{Logprob, OP, Outcome, Request, sample_into, sample_logprobs_into};
use crate::cuda::device;
use crate::cuda::guards::refuse_capture;
use crate::cuda::rows::{DeviceElement, Rows};
use crate::error::{Error, Result};
use crate::sampler::{self, Sampled, Sampler, Step};
use cudarc::driver::CudaStream;
use std::ops::Range;
use std::sync::Arc;

/// Draws a token from each row of logits on the stream's device. The results are those of [`Sampler::sample_rows`].
///
/// This function copies the steps to the device, allocates memory on it, and waits for the tokens. It cannot be
/// captured in a CUDA graph. [`sample_logprobs_into`] does not wait, and can be captured.
///
/// ```no_run
/// use evenkeel::cuda::{self, Rows};
/// use evenkeel::{Draw, SamplerConfig, Step};
///
/// let stream = cuda::device(0)?.default_stream();
/// let logits = stream.clone_htod(&[1.0f32, 3.0, 2.0])?;
/// let sampler = SamplerConfig::default().temperature(0.7).repetition_penalty(1.2).validate()?;
/// let step = Step::from(Draw { seed: 1, row: 0, draw: 0 }).output(&[1]);
/// for sampled in cuda::sample_rows(&stream, Rows::new(logits.as_view(), 1, 3)?, &sampler, &[step])? {
///     let sampled = sampled?;
///     println!("token {} with log-probability {}", sampled.token, sampled.logprob);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The errors of [`sample_logprobs_into`]; [`Error::InvalidArgument`] for options that [`Request::new`] rejects, for
/// steps with a bias or bad words, and for tokens outside the vocabulary; [`Error::ShapeMismatch`] unless there is one
/// step for each row, and if [`Step::allowed`] has too few words. Errors of a single row are results of that row.
pub fn sample_rows<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    sampler: &Sampler,
    steps: &[Step<'_>],
) -> Result<Vec<Result<Sampled>>> {
    super::one_for_each("steps", steps.len(), logits.rows)?;
    let requests: Vec<_> = steps.iter().map(|step| sampler::Request { sampler, step: *step }).collect();
    sample_requests(stream, logits, &requests)
}

/// Draws a token from each row of logits on the stream's device, with the parameters of the row's
/// [`Request`](crate::Request). Otherwise equal to [`sample_rows`].
///
/// # Errors
/// The errors of [`sample_rows`].
pub fn sample_requests<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    requests: &[sampler::Request<'_>],
) -> Result<Vec<Result<Sampled>>> {
    super::one_for_each("requests", requests.len(), logits.rows)?;
    Plan::new(requests, logits.cols)?.run(stream, logits)
}

/// Maximum length of a list of tokens. Kernels add the lengths of two lists in 32 bits.
const MOST_TOKENS: usize = 1 << 30;

/// Requests of all rows, with their lists of tokens in the host's memory.
pub(crate) struct Plan {
    requests: Vec<Request>,
    /// Allowed tokens, prompts and outputs of all rows, one after another.
    words: Vec<u32>,
    /// For each row, three ranges of `words`: its allowed tokens, its prompt and its output.
    places: Vec<[Range<usize>; 3]>,
    has_history: bool,
    /// For each row, whether its log-probability is returned.
    has_logprob: Vec<bool>,
}

impl Plan {
    /// Converts the requests of rows with `cols` logits to requests of the device.
    ///
    /// # Errors
    /// The errors of [`sample_rows`] for options and steps.
    pub(crate) fn new(requests: &[sampler::Request<'_>], cols: usize) -> Result<Self> {
        let mut plan = Plan {
            requests: Vec::new(),
            words: Vec::new(),
            places: Vec::new(),
            has_history: false,
            has_logprob: Vec::new(),
        };
        for (row, request) in requests.iter().enumerate() {
            let (config, _, step) = request.parts();
            let request = Request::new(request.sampler, step.draw)?;
            for (argument, len) in [("bias", step.bias.len()), ("bad_words", step.bad_words.len())] {
                if len > 0 {
                    let value = format!("a list of length {len}");
                    return Err(Error::invalid_in_row(OP, argument, row, value, "unset on CUDA devices"));
                }
            }
            let needed = cols.div_ceil(32);
            let allowed = match step.allowed {
                Some(words) => words.get(..needed).ok_or_else(|| {
                    let expected = format!("{needed} words for {cols} tokens");
                    Error::shape(OP, "allowed", format!("{} words", words.len()), expected)
                })?,
                None => &[],
            };
            let (mut prompt, mut output) = (step.prompt, step.output);
            if request.has_penalties() || step.allowed.is_some() {
                for (argument, tokens) in [("prompt", prompt), ("output", output)] {
                    if let Some(token) = tokens.iter().find(|token| **token as usize >= cols) {
                        let expected = format!("below {cols}, the vocabulary size");
                        return Err(Error::invalid_in_row(OP, argument, row, token, expected));
                    }
                }
            }
            if request.has_penalties() {
                let window = config.penalty_window.unwrap_or(usize::MAX);
                output = &output[output.len().saturating_sub(window)..];
                prompt = &prompt[prompt.len().saturating_sub(window - output.len())..];
            } else {
                (prompt, output) = (&[], &[]);
            }
            for (argument, list) in [("prompt", prompt), ("output", output)] {
                if list.len() > MOST_TOKENS {
                    let (value, expected) = (format!("{} tokens", list.len()), format!("at most {MOST_TOKENS} tokens"));
                    return Err(Error::invalid_in_row(OP, argument, row, value, expected));
                }
            }
            plan.has_history |= !(prompt.is_empty() && output.is_empty());
            plan.requests.push(request);
            plan.has_logprob.push(config.logprob);
            let places = [allowed, prompt, output].map(|list| {
                let start = plan.words.len();
                plan.words.extend_from_slice(list);
                start..plan.words.len()
            });
            plan.places.push(places);
        }
        Ok(plan)
    }

    /// Draws a token from each row. There must be one request for each row.
    pub(crate) fn run<E: DeviceElement>(
        mut self,
        stream: &Arc<CudaStream>,
        logits: Rows<'_, E>,
    ) -> Result<Vec<Result<Sampled>>> {
        let (rows, cols) = (logits.rows, logits.cols);
        if rows == 0 {
            return Ok(Vec::new());
        }
        let _caller = device::CallerContext::save();
        refuse_capture(OP, stream, "steps are copied and tokens are read")?;
        // Adds a word, because an empty list cannot be allocated on a device.
        self.words.push(0);
        let words = device::check(stream.clone_htod(&self.words))?;
        let (first, _lists) = device::read((OP, "steps"), &words, stream)?;
        for (request, [allowed, prompt, output]) in self.requests.iter_mut().zip(&self.places) {
            let address = |place: &Range<usize>| first + (place.start * size_of::<u32>()) as u64;
            let list = |place: &Range<usize>| (address(place), place.len() as u32);
            // SAFETY: the lists are in `words`, which lives until the outcomes have been copied to the host.
            *request = unsafe { request.history(list(prompt), list(output)) };
            if !allowed.is_empty() {
                // SAFETY: as above; the list has a bit for each token of the vocabulary.
                *request = unsafe { request.allowed(address(allowed)) };
            }
        }
        let requests = device::check(stream.clone_htod(&self.requests))?;
        let mut outcomes = device::check(stream.alloc_zeros::<Outcome>(rows))?;
        let len = if self.has_history { rows * cols } else { 0 };
        let mut adjusted = if len > 0 { Some(device::check(stream.alloc_zeros::<f32>(len))?) } else { None };
        let adjusted = adjusted.as_mut().map(|adjusted| adjusted.as_view_mut());
        let logprobs = if self.has_logprob.contains(&true) {
            let mut logprobs = device::check(stream.alloc_zeros::<Logprob>(rows))?;
            let (out, to) = (outcomes.as_view_mut(), logprobs.as_view_mut());
            sample_logprobs_into(stream, logits, requests.as_view(), adjusted, out, to)?;
            device::to_host(stream, &logprobs)?
        } else {
            sample_into(stream, logits, requests.as_view(), adjusted, outcomes.as_view_mut())?;
            Vec::new()
        };
        let outcomes = device::to_host(stream, &outcomes)?;
        let logprob = |row: usize| match logprobs.get(row).filter(|_| self.has_logprob[row]) {
            Some(logprob) => logprob.get().map_or(f64::NEG_INFINITY, |(_, logprob)| logprob),
            None => f64::NAN,
        };
        let sampled = |(row, outcome): (usize, Outcome)| {
            let (token, kept) = outcome.result(row, cols)?;
            Ok(Sampled { token, logprob: logprob(row), kept, feedback: 0.0 })
        };
        Ok(outcomes.into_iter().enumerate().map(sampled).collect())
    }
}
