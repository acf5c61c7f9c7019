//! Sampling from a tensor of logits. A CUDA device draws the tokens if its kernels support the request. Otherwise, the
//! logits are copied to the CPU.

#![forbid(unsafe_code)]

use super::norm::last_axis;
use crate::candle::view::{readable, with_views};
use crate::error::Result as Typed;
use crate::mask::Mask;
use crate::ops::sample::{Distribution, Request, Sampled, Sampler, Step};
use candle_core::{CpuStorage, Device, Result, Tensor};
#[cfg(feature = "candle-cuda")]
use {
    crate::candle::cuda::{self, each_type, supports},
    crate::cuda::sample::Plan,
};

const NAME: &str = "sample";

/// Evaluates an expression with a variable that holds the rows of the logits. The logits may have any element type.
macro_rules! each_row {
    ($logits:expr, $rows:ident => $result:expr) => {{
        let logits = $logits.to_device(&Device::Cpu)?;
        let logits = readable(&logits, last_axis(NAME, &logits)?)?;
        with_views(NAME, &[&logits], |views| {
            let view = views[0];
            match view.storage {
                CpuStorage::F64(data) => view.rows(data).map(|$rows| $result),
                CpuStorage::F32(data) => view.rows(data).map(|$rows| $result),
                CpuStorage::F16(data) => view.rows(data).map(|$rows| $result),
                CpuStorage::BF16(data) => view.rows(data).map(|$rows| $result),
                _ => Err(view.unsupported(NAME)),
            }
        })?
    }};
}

/// Applies [`sample_rows`](crate::sample_rows()) along the last axis.
pub fn sample_requests(
    logits: &Tensor,
    mask: Option<&Mask<'_>>,
    requests: &[Request<'_>],
) -> Result<Vec<Typed<Sampled>>> {
    Mask::check_rank(mask, NAME, logits.rank())?;
    #[cfg(feature = "candle-cuda")]
    if mask.is_none_or(Mask::is_none)
        && let Some(sampled) = on_device(logits, requests)?
    {
        return Ok(sampled);
    }
    Ok(each_row!(logits, rows => crate::sample_rows(rows, mask, requests))?)
}

/// Draws on the logits' CUDA device. Returns `None` if the device's kernels do not support the tensor or a request. The
/// CPU then draws the tokens, or reports the error.
#[cfg(feature = "candle-cuda")]
fn on_device(logits: &Tensor, requests: &[Request<'_>]) -> Result<Option<Vec<Typed<Sampled>>>> {
    let Some(&cols) = logits.dims().last().filter(|_| supports(logits)) else { return Ok(None) };
    if Some(logits.elem_count()) != requests.len().checked_mul(cols) {
        return Ok(None);
    }
    let Ok(plan) = Plan::new(requests, cols) else { return Ok(None) };
    cuda::with_views(NAME, &[logits], |views| {
        let view = views[0];
        each_type!(NAME, view.dtype(), E => Ok(Some(plan.run(&view.stream(), view.rows::<E>(NAME)?)?)))
    })
}

/// Applies [`Sampler::distributions`] along the last axis.
pub fn distributions<'a>(
    logits: &Tensor,
    sampler: &Sampler,
    mask: Option<&Mask<'_>>,
    steps: &[impl Copy + Sync + Into<Step<'a>>],
) -> Result<Vec<Typed<Distribution>>> {
    Mask::check_rank(mask, NAME, logits.rank())?;
    Ok(each_row!(logits, rows => sampler.distributions(rows, mask, steps))?)
}
