//! Sampling parameters of a row, as the kernels read them.

use super::OP;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;
use crate::sampler::{Draw, Feedback, Filter, Penalties, Sampler};
use crate::simd::in_default;
use cudarc::driver::{DeviceRepr, ValidAsZeroBits};

/// A filter, laid out as the kernels read it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
struct Stage {
    kind: u32,
    flags: u32,
    value: f64,
}

const TEMPERATURE: u32 = 0;
const TOP_K: u32 = 1;
const TOP_P: u32 = 2;
const MIN_P: u32 = 3;
/// Maximum number of filters. The filters are temperature, top-k, top-p and min-p, each at most once.
const MOST_FILTERS: usize = 4;

/// Sampling parameters of one row, laid out as the kernels read them. The caller copies them to the device.
///
/// ```
/// use evenkeel::{Draw, SamplerConfig, cuda::sample::Request};
/// let sampler = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).validate()?;
/// let request = Request::new(&sampler, Draw { seed: 1, row: 0, draw: 0 })?;
/// # let _ = request;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Request {
    seed: u64,
    row: u64,
    draw: u64,
    counter: u64,
    allowed: u64,
    prompt: u64,
    output: u64,
    prompt_len: u32,
    output_len: u32,
    repetition: f64,
    presence: f64,
    frequency: f64,
    penalises: u32,
    filters: u32,
    filter: [Stage; MOST_FILTERS],
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Request {}
// SAFETY: all zeros are a request without filters.
unsafe impl ValidAsZeroBits for Request {}

impl Request {
    /// Converts a sampler's parameters and a draw to a request.
    ///
    /// [`SamplerConfig::logprob`](crate::SamplerConfig::logprob) has no effect on a request:
    /// [`sample_logprobs_into`](super::sample_logprobs_into) writes log-probabilities, and
    /// [`sample_into`](super::sample_into) writes none.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for options that devices do not support: filters other than temperature, top-k, top-p
    /// and min-p; `min_keep` above 1; DRY; mirostat and adaptive-p.
    pub fn new(sampler: &Sampler, draw: Draw) -> Result<Self> {
        let unmet = |argument, value: String| Err(Error::invalid(OP, argument, value, "unset on CUDA devices"));
        let (config, plan) = sampler.parts();
        if plan.min_keep != 1 {
            return unmet("min_keep", plan.min_keep.to_string());
        }
        if config.dry_multiplier != 0.0 {
            return unmet("dry_multiplier", config.dry_multiplier.to_string());
        }
        if let Some((argument, value)) = plan.feedback.map(Feedback::parameter) {
            return unmet(argument, value);
        }
        let mut request = Request { seed: draw.seed, row: draw.row, draw: draw.draw, ..Request::default() };
        let mut filters = 0;
        for filter in &plan.filters {
            let (kind, flags, value) = match *filter {
                Filter::Greedy => (TOP_K, 0, 1.0),
                Filter::Temperature(temperature) => (TEMPERATURE, 0, in_default(|| (1.0 / temperature).min(f64::MAX))),
                // No vocabulary has more than `MAX_TERMS` tokens, so a larger k keeps all tokens.
                Filter::TopK { k, keeps_equals } => (TOP_K, u32::from(keeps_equals), k.min(MAX_TERMS) as f64),
                Filter::TopP { p, highest_first, of_all } => {
                    (TOP_P, u32::from(highest_first) | u32::from(of_all) << 1, p)
                }
                Filter::MinP(p) => (MIN_P, 0, p),
                _ => {
                    let (argument, value) = filter.parameter();
                    return unmet(argument, value);
                }
            };
            request.filter[filters] = Stage { kind, flags, value };
            filters += 1;
        }
        request.filters = filters as u32;
        let rounded = |v: f64| in_default(|| f64::from(v.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32));
        request.repetition = rounded(config.repetition_penalty);
        request.presence = rounded(config.presence_penalty);
        request.frequency = rounded(config.frequency_penalty);
        let penalises =
            config.repetition_penalty != 1.0 || config.presence_penalty != 0.0 || config.frequency_penalty != 0.0;
        let of_all = config.profile.rules().penalties == Penalties::OfAll;
        request.penalises = u32::from(penalises) << u32::from(of_all);
        Ok(request)
    }

    /// Returns whether the sampler has penalties.
    pub(super) fn has_penalties(&self) -> bool {
        self.penalises != 0
    }

    /// Sets the index of the draw. Each token of a sequence needs an index of its own.
    pub fn draw(self, draw: u64) -> Self {
        Request { draw, ..self }
    }

    /// Sets the device address of a counter. The kernels that draw add the counter to the index of the draw; the sum
    /// may wrap. If a CUDA graph captures the sampling and then [`advance`](super::advance), each replay draws with
    /// different random numbers.
    ///
    /// # Safety
    /// Whenever a kernel reads the request, `address` must be the device address of an initialised and aligned `u64`.
    pub unsafe fn counter(self, address: u64) -> Self {
        Request { counter: address, ..self }
    }

    /// Sets the bit mask of the tokens that may be drawn. Token t is bit t % 32 of word t / 32.
    ///
    /// # Safety
    /// Whenever a kernel reads the request, `words` must be the device address of enough 32-bit words for the
    /// vocabulary.
    pub unsafe fn allowed(self, words: u64) -> Self {
        Request { allowed: words, ..self }
    }

    /// Sets the lists of prompt tokens and output tokens that the penalties count. Each list is given by its address
    /// and length. To apply a `penalty_window`, the caller passes only the last tokens. A token outside the vocabulary
    /// makes the row's outcome an error. Without penalties, the CPU does not read the lists, but the device still
    /// returns this error.
    ///
    /// # Safety
    /// Whenever a kernel reads the request, each argument must be the device address and the length of a list of 32-bit
    /// tokens.
    pub unsafe fn history(self, prompt: (u64, u32), output: (u64, u32)) -> Self {
        Request { prompt: prompt.0, prompt_len: prompt.1, output: output.0, output_len: output.1, ..self }
    }
}
