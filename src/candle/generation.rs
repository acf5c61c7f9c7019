//! `candle_transformers::generation` on Evenkeel's sampler: a token or a reason.
//!
//! The strategies mean what they mean in candle, and decide the same set of tokens: top-k keeps the k first by logit
//! (by index among equals), top-p the shortest prefix whose mass reaches p. What differs:
//!
//! - The random stream. Draws are counter-based ([`Draw`]): a processor's n-th token depends on its seed, on n and on
//!   its logits, the same on every machine.
//! - [`Sampling::GumbelSoftmax`] draws from the processor's seed, and from the whole distribution: candle's noise is
//!   bounded, so that it never draws a token some 9.7 temperatures below the best.
//! - A NaN among the logits, logits of nothing but -inf, no logits, k = 0 and a temperature or p that is no such number
//!   are errors that name what is wrong, for every strategy; `evenkeel::Error::from` gives the typed error. Candle
//!   picks a token for some of them, and for others gives errors that do not tell which.
//! - A logit of +inf is drawn; among several, each alike.
//! - A temperature of 0 is greedy also from [`LogitsProcessor::from_sampling`], where candle divides by it.

#![forbid(unsafe_code)]

use super::op::sample::{distributions, sample_rows};
use crate::simd::in_default;
use crate::{Draw, Error as Typed, Profile, Sampler, SamplerConfig};
use candle_core::{DType, Device, Result, Tensor};

/// How a token is chosen.
#[derive(Clone, PartialEq, Debug)]
pub enum Sampling {
    /// The largest logit, the lowest index among equals.
    ArgMax,
    /// Any token.
    All {
        /// Divides the logits.
        temperature: f64,
    },
    /// One of the k most probable tokens.
    TopK {
        /// How many; all, if there are no more tokens.
        k: usize,
        /// Divides the logits.
        temperature: f64,
    },
    /// One of the most probable tokens that together reach a probability.
    TopP {
        /// The probability; all tokens, if it is not above 0 and below 1.
        p: f64,
        /// Divides the logits.
        temperature: f64,
    },
    /// One of those of the k most probable tokens that together reach a probability.
    TopKThenTopP {
        /// How many; all, if there are no more tokens.
        k: usize,
        /// The probability, of all tokens; all k, if they do not reach it or it is not above 0.
        p: f64,
        /// Divides the logits.
        temperature: f64,
    },
    /// Any token, as [`Sampling::All`]: adding Gumbel noise and taking the largest is the same distribution.
    GumbelSoftmax {
        /// Divides the logits; greedy, if it is 0 or below.
        temperature: f64,
    },
}

/// Draws tokens, one after the other.
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
    /// Calls so far: the number of the next draw.
    step: u64,
    sampling: Sampling,
}

impl LogitsProcessor {
    /// A processor with this strategy.
    pub fn from_sampling(seed: u64, sampling: Sampling) -> Self {
        LogitsProcessor { seed, step: 0, sampling }
    }

    /// A processor that is greedy without a temperature, or with one below 1e-7; else draws from the most probable
    /// tokens that together reach `top_p`, or from all.
    pub fn new(seed: u64, temperature: Option<f64>, top_p: Option<f64>) -> Self {
        // NaN is no temperature below 1e-7, and is refused once there are logits.
        let sampling = match (temperature, top_p) {
            (None, _) => Sampling::ArgMax,
            (Some(temperature), _) if temperature < 1e-7 => Sampling::ArgMax,
            (Some(temperature), None) => Sampling::All { temperature },
            (Some(temperature), Some(p)) => Sampling::TopP { p, temperature },
        };
        Self::from_sampling(seed, sampling)
    }

    /// Draws a token from logits, a tensor with one dimension.
    ///
    /// # Errors
    /// See the [module](self); candle's for logits with another number of dimensions.
    pub fn sample(&mut self, logits: &Tensor) -> Result<u32> {
        let draw = self.next_draw();
        let sampler = Plan::new(&self.sampling)?.sampler()?;
        Ok(sample_rows(&prepared(logits)?, &sampler, None, &[draw])?.swap_remove(0)?.token)
    }

    /// As [`LogitsProcessor::sample`], once `f` has changed the probabilities: those of all tokens, in f32, before any
    /// filter. They need not add up to 1 then; top-p is of 1 all the same. `f` is not called where no probabilities are: when the largest logit
    /// is taken, and for [`Sampling::GumbelSoftmax`].
    ///
    /// # Errors
    /// As [`LogitsProcessor::sample`], and for a probability that is negative or not finite.
    pub fn sample_f(&mut self, logits: &Tensor, f: impl FnOnce(&mut [f32])) -> Result<u32> {
        let draw = self.next_draw();
        let plan = Plan::new(&self.sampling)?;
        let logits = prepared(logits)?;
        let token = |logits: &Tensor, sampler| Ok(sample_rows(logits, &sampler, None, &[draw])?.swap_remove(0)?.token);
        if plan.temperature == 0.0 || matches!(self.sampling, Sampling::GumbelSoftmax { .. }) {
            return token(&logits, plan.sampler()?);
        }
        let all = Plan { k: None, p: None, ..plan }.sampler()?;
        let all = distributions(&logits, &all, None, &[draw])?.swap_remove(0)?.probs()?;
        let mut probabilities: Vec<f32> = in_default(|| all.into_iter().map(|p| p as f32).collect());
        f(&mut probabilities);
        let refused = in_default(|| probabilities.iter().position(|p| !(p.is_finite() && *p >= 0.0)));
        if let Some(index) = refused {
            let value = format!("{} at {index}", probabilities[index]);
            Err(Typed::invalid("sample", "probabilities", value, "finite and not negative"))?;
        }
        let weights: Vec<f64> = in_default(|| probabilities.into_iter().map(f64::from).collect());
        let logits = Tensor::new(crate::log(&weights)?, &Device::Cpu)?;
        // Top-p is of 1, whatever the weights add up to.
        let p = plan.p.map(|p| in_default(|| p / weights.iter().sum::<f64>()));
        token(&logits, Plan { temperature: 1.0, p, ..plan }.sampler()?)
    }

    fn next_draw(&mut self) -> Draw {
        let draw = self.step;
        self.step += 1;
        Draw { seed: self.seed, row: 0, draw }
    }
}

/// The logits on the CPU, in a type that the sampler takes.
fn prepared(logits: &Tensor) -> Result<Tensor> {
    logits.dims1()?;
    let logits = logits.to_device(&Device::Cpu)?;
    match logits.dtype() {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Ok(logits),
        _ => logits.to_dtype(DType::F32),
    }
}

/// A strategy in the sampler's terms.
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
        // Every logit that is not -inf is alike to an infinite temperature, as it is to the largest number.
        let temperature = if temperature == f64::INFINITY { f64::MAX } else { temperature };
        Ok(Plan { temperature, k, p: p.filter(|p| *p > 0.0 && *p < 1.0) })
    }

    fn sampler(self) -> Result<Sampler> {
        let config = SamplerConfig::default().profile(Profile::Candle).temperature(self.temperature);
        Ok(SamplerConfig { top_k: self.k, top_p: self.p, ..config }.validate()?)
    }
}
