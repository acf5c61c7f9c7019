//! Sampling from tensors of logits.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::mask::Mask;
use crate::ops::sample::{Distribution, Sampled, Sampler, Step};
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
    Ok(op::sample::sample_rows(logits, sampler, mask, steps)?)
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
