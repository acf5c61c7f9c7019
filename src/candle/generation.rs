//! Replacement for `candle_transformers::generation` that draws tokens with Evenkeel's sampler.
//!
//! The strategies have the same meaning as in candle and select the same set of tokens. Top-k keeps the k largest
//! logits. Among equal logits, it keeps the lowest indices. Top-p keeps the shortest prefix, in descending order, whose
//! probability reaches p. The differences are:
//!
//! - The random stream differs. Draws are counter-based ([`Draw`]): the n-th token of a processor depends only on the
//!   processor's seed, on n and on the logits. The token is the same on every machine.
//! - [`Sampling::GumbelSoftmax`] uses the processor's seed and draws from the whole distribution. Candle's noise is
//!   bounded. So candle never draws a token whose logit is below the largest logit by more than about 9.7 times the
//!   temperature.
//! - Invalid inputs are errors that name the cause, for every strategy: a NaN among the logits, logits that are all
//!   -inf, no logits, a `k` of 0, an invalid temperature, or a `p` of NaN. `evenkeel::Error::from` returns the typed
//!   error. For some of these inputs, candle draws a token. For the other inputs, candle returns an error that does not
//!   name the cause.
//! - A token with a logit of +inf is always drawn. If several tokens have a logit of +inf, each of them has the same
//!   probability.
//! - A temperature of 0 is greedy, even from [`LogitsProcessor::from_sampling`], where candle divides by 0.

#![forbid(unsafe_code)]

use super::op::sample::{distributions, sample_requests};
use crate::simd::in_default;
use crate::{Draw, Error as Typed, Profile, Request, Sampler, SamplerConfig};
use candle_core::{DType, Device, Result, Tensor};

/// Strategy for choosing a token.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "it replaces candle's enum, with the same variants")]
pub enum Sampling {
    /// Greedy: the token with the largest logit. Among equal logits, the token with the lowest index.
    ArgMax,
    /// A draw from all tokens.
    All {
        /// Divisor of the logits.
        temperature: f64,
    },
    /// A draw from the k most probable tokens.
    TopK {
        /// Number of tokens to keep. All tokens are kept if the vocabulary has at most `k` tokens.
        k: usize,
        /// Divisor of the logits.
        temperature: f64,
    },
    /// A draw from the smallest set of most probable tokens whose total probability reaches `p`.
    TopP {
        /// Total probability of the set. All tokens are kept unless `p` is above 0 and below 1.
        p: f64,
        /// Divisor of the logits.
        temperature: f64,
    },
    /// Top-k, then top-p among the k tokens.
    TopKThenTopP {
        /// Number of tokens to keep. All tokens are kept if the vocabulary has at most `k` tokens.
        k: usize,
        /// Total probability of the set. Probabilities are relative to all tokens, not only to the k tokens. All k
        /// tokens are kept if their total probability does not reach `p`, or if `p` is not between 0 and 1.
        p: f64,
        /// Divisor of the logits.
        temperature: f64,
    },
    /// A draw from all tokens, computed like [`Sampling::All`]. The name refers to another method with the same
    /// distribution: add Gumbel noise to the logits and select the largest.
    GumbelSoftmax {
        /// Divisor of the logits. Sampling is greedy if the divisor is 0 or negative.
        temperature: f64,
    },
}

/// Sampler that draws one token per call.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::generation::{LogitsProcessor, Sampling};
/// let mut processor = LogitsProcessor::from_sampling(42, Sampling::TopK { k: 2, temperature: 0.8 });
/// let token = processor.sample(&Tensor::new(&[0.5f32, 3.0, -1.0, 2.0], &Device::Cpu)?)?;
/// assert!(token == 1 || token == 3);
/// let broken = processor.sample(&Tensor::new(&[0.5f32, f32::NAN], &Device::Cpu)?).unwrap_err();
/// assert_eq!(evenkeel::Error::from(broken).index(), Some(1));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogitsProcessor {
    seed: u64,
    /// Number of calls so far, which is the index of the next draw.
    step: u64,
    sampling: Sampling,
}

impl LogitsProcessor {
    /// Creates a processor with this strategy.
    pub fn from_sampling(seed: u64, sampling: Sampling) -> Self {
        LogitsProcessor { seed, step: 0, sampling }
    }

    /// Creates a processor from an optional temperature and top-p.
    ///
    /// The processor is greedy without a temperature, and with a temperature below 1e-7. Otherwise it draws from the
    /// most probable tokens whose total probability reaches `top_p`, or from all tokens if `top_p` is `None`.
    pub fn new(seed: u64, temperature: Option<f64>, top_p: Option<f64>) -> Self {
        // A temperature of NaN is not below 1e-7. So this function keeps it, and drawing a token returns an error.
        let sampling = match (temperature, top_p) {
            (None, _) => Sampling::ArgMax,
            (Some(temperature), _) if temperature < 1e-7 => Sampling::ArgMax,
            (Some(temperature), None) => Sampling::All { temperature },
            (Some(temperature), Some(p)) => Sampling::TopP { p, temperature },
        };
        Self::from_sampling(seed, sampling)
    }

    /// Draws a token from the logits, a tensor with one dimension.
    ///
    /// With the feature `candle-cuda`, f32, f16 and bf16 logits on a CUDA device stay there. Other logits are copied to
    /// the CPU.
    ///
    /// # Errors
    /// See the [module](self); candle's error for logits with another number of dimensions.
    pub fn sample(&mut self, logits: &Tensor) -> Result<u32> {
        let draw = self.next_draw();
        token(&prepared(logits)?, &Plan::new(&self.sampling)?.sampler()?, draw)
    }

    /// Draws a token as [`LogitsProcessor::sample`] does, after `f` has changed the probabilities.
    ///
    /// `f` receives the f32 probabilities of all tokens, before any filter. The values that `f` leaves need not add up
    /// to 1. Top-p compares sums of these values with p without normalising them. `f` is not called for greedy sampling
    /// or [`Sampling::GumbelSoftmax`], which compute no probabilities.
    ///
    /// # Errors
    /// The errors of [`LogitsProcessor::sample`]; also an error for a probability that is negative or not finite.
    pub fn sample_f(&mut self, logits: &Tensor, f: impl FnOnce(&mut [f32])) -> Result<u32> {
        let draw = self.next_draw();
        let plan = Plan::new(&self.sampling)?;
        let logits = prepared(logits)?;
        if plan.temperature == 0.0 || matches!(self.sampling, Sampling::GumbelSoftmax { .. }) {
            return token(&logits, &plan.sampler()?, draw);
        }
        let all = Plan { k: None, p: None, ..plan }.sampler()?;
        let all = distributions(&logits, &all, None, &[draw])?.swap_remove(0)?.probs()?;
        let mut probabilities: Vec<f32> = in_default(|| all.into_iter().map(|p| p as f32).collect());
        f(&mut probabilities);
        let refused = in_default(|| probabilities.iter().position(|p| !(p.is_finite() && *p >= 0.0)));
        if let Some(index) = refused {
            let value = format!("{} at index {index}", probabilities[index]);
            Err(Typed::invalid("sample", "a probability", value, "finite and not negative"))?;
        }
        let weights: Vec<f64> = in_default(|| probabilities.into_iter().map(f64::from).collect());
        let logits = Tensor::new(crate::log(&weights)?, &Device::Cpu)?;
        // Candle compares p with sums of weights that are not normalised. The sampler divides the weights by their
        // total, so p is divided by the same total.
        let p = plan.p.map(|p| in_default(|| p / weights.iter().sum::<f64>()));
        token(&logits, &Plan { temperature: 1.0, p, ..plan }.sampler()?, draw)
    }

    fn next_draw(&mut self) -> Draw {
        let draw = self.step;
        self.step += 1;
        Draw { seed: self.seed, row: 0, draw }
    }
}

fn token(logits: &Tensor, sampler: &Sampler, draw: Draw) -> Result<u32> {
    let request = Request { sampler, step: draw.into() };
    Ok(sample_requests(logits, None, &[request])?.swap_remove(0)?.token)
}

/// Returns the logits in a type that the sampler supports.
fn prepared(logits: &Tensor) -> Result<Tensor> {
    logits.dims1()?;
    match logits.dtype() {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Ok(logits.clone()),
        _ => logits.to_dtype(DType::F32),
    }
}

/// A strategy, converted to parameters of the sampler.
#[derive(Clone, Copy)]
struct Plan {
    temperature: f64,
    k: Option<usize>,
    p: Option<f64>,
}

impl Plan {
    fn new(sampling: &Sampling) -> Result<Self> {
        let (temperature, k, p) = match *sampling {
            Sampling::ArgMax => (0.0, None, None),
            Sampling::All { temperature } => (temperature, None, None),
            Sampling::TopK { k, temperature } => (temperature, Some(k), None),
            Sampling::TopP { p, temperature } => (temperature, None, Some(p)),
            Sampling::TopKThenTopP { k, p, temperature } => (temperature, Some(k), Some(p)),
            Sampling::GumbelSoftmax { temperature } if temperature <= 0.0 => (0.0, None, None),
            Sampling::GumbelSoftmax { temperature } => (temperature, None, None),
        };
        if p.is_some_and(f64::is_nan) {
            Err(Typed::invalid("sample", "top_p", f64::NAN, "a number"))?;
        }
        if temperature < 0.0 {
            Err(Typed::invalid("sample", "temperature", temperature, "finite and not negative"))?;
        }
        // The sampler requires a finite temperature. A temperature of +inf is therefore replaced by the largest f64.
        // With either temperature, all tokens are equally likely, except those with a logit of -inf.
        let temperature = if temperature == f64::INFINITY { f64::MAX } else { temperature };
        Ok(Plan { temperature, k, p: p.filter(|p| *p > 0.0 && *p < 1.0) })
    }

    fn sampler(self) -> Result<Sampler> {
        let config = SamplerConfig::default().profile(Profile::Candle).temperature(self.temperature).logprob(false);
        Ok(SamplerConfig { top_k: self.k, top_p: self.p, ..config }.validate()?)
    }
}
