//! Sampling from tensors of logits.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::mask::Mask;
use crate::ops::sample::{Distribution, Request, Sampled, Sampler, Step};
use candle_core::Tensor;

/// Draws a token from each row along the last dimension; see [`Sampler::sample_rows`].
///
/// With the feature `candle-cuda`, f32, f16 and bf16 logits on a CUDA device stay there, and only the tokens are copied
/// to the CPU. This requires that there is no mask, that no sampler has a bias or bad words, and that the kernels
/// support the sampler's options. `cuda::sample::Request::new` lists the options that the kernels do not support. All
/// other logits are copied to the CPU. The results are the same, but [`report::scope`](crate::report::scope) does not
/// count rows that a device samples.
///
/// # Errors
/// The errors of [`Sampler::sample_rows`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{Draw, SamplerConfig, candle::guarded};
/// let logits = Tensor::new(&[[0f32, 2., 1.], [0., f32::NAN, 0.]], &Device::Cpu)?;
/// let sampler = SamplerConfig::default().temperature(0.0).validate()?;
/// let draws = [Draw { seed: 1, row: 0, draw: 0 }, Draw { seed: 1, row: 1, draw: 0 }];
/// let tokens = guarded::sample_rows(&logits, &sampler, None, &draws)?;
/// assert_eq!(tokens[0].as_ref().map(|sampled| sampled.token), Ok(1));
/// assert_eq!(tokens[1].as_ref().unwrap_err().index(), Some(1)); // one bad row does not stop the others
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn sample_rows<'a>(
    logits: &Tensor,
    sampler: &Sampler,
    mask: Option<&Mask<'_>>,
    steps: &[impl Copy + Sync + Into<Step<'a>>],
) -> Result<Vec<Result<Sampled>>> {
    let requests: Vec<_> = steps.iter().map(|step| Request { sampler, step: (*step).into() }).collect();
    sample_requests(logits, mask, &requests)
}

/// Draws a token from each row along the last dimension, with the parameters of the row's [`Request`]; see
/// [`sample_rows`](crate::sample_rows()).
///
/// A CUDA device draws the tokens under the conditions of [`sample_rows`]. All requests must fulfil them; otherwise the
/// CPU draws all tokens.
///
/// # Errors
/// The errors of [`sample_rows`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{Draw, Request, SamplerConfig, candle::guarded};
/// let logits = Tensor::new(&[[0f32, 2., 1.], [0., 2., 1.]], &Device::Cpu)?;
/// let (greedy, random) = (SamplerConfig::default().temperature(0.0), SamplerConfig::default().temperature(0.7));
/// let samplers = [greedy.validate()?, random.validate()?];
/// let draw = |row| Draw { seed: 1, row, draw: 0 };
/// let requests = [0, 1].map(|i| Request { sampler: &samplers[i], step: draw(i as u64).into() });
/// let tokens = guarded::sample_requests(&logits, None, &requests)?;
/// assert_eq!(tokens[0].as_ref().map(|sampled| sampled.token), Ok(1));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn sample_requests(
    logits: &Tensor,
    mask: Option<&Mask<'_>>,
    requests: &[Request<'_>],
) -> Result<Vec<Result<Sampled>>> {
    Ok(op::sample::sample_requests(logits, mask, requests)?)
}

/// Returns the distribution of the sampled token for each row along the last dimension; see [`Sampler::distributions`].
///
/// # Errors
/// The errors of [`sample_rows`].
pub fn distributions<'a>(
    logits: &Tensor,
    sampler: &Sampler,
    mask: Option<&Mask<'_>>,
    steps: &[impl Copy + Sync + Into<Step<'a>>],
) -> Result<Vec<Result<Distribution>>> {
    Ok(op::sample::distributions(logits, sampler, mask, steps)?)
}
