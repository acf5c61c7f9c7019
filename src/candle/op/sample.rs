//! Sampling from a tensor of logits, which is copied to the CPU if necessary.

#![forbid(unsafe_code)]

use super::norm::last_axis;
use crate::candle::view::{readable, with_views};
use crate::error::Result as Typed;
use crate::mask::Mask;
use crate::ops::sample::{Distribution, Sampled, Sampler, Step};
use candle_core::{CpuStorage, Device, Result, Tensor};

const NAME: &str = "sample";

/// Evaluates an expression in which a variable stands for the rows of the logits. The logits may have any element type.
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

/// Applies [`Sampler::sample_rows`] along the last axis.
pub fn sample_rows<'a>(
    logits: &Tensor,
    sampler: &Sampler,
    mask: Option<&Mask<'_>>,
    steps: &[impl Copy + Sync + Into<Step<'a>>],
) -> Result<Vec<Typed<Sampled>>> {
    Ok(each_row!(logits, rows => sampler.sample_rows(rows, mask, steps))?)
}

/// Applies [`Sampler::distributions`] along the last axis.
pub fn distributions<'a>(
    logits: &Tensor,
    sampler: &Sampler,
    mask: Option<&Mask<'_>>,
    steps: &[impl Copy + Sync + Into<Step<'a>>],
) -> Result<Vec<Typed<Distribution>>> {
    Ok(each_row!(logits, rows => sampler.distributions(rows, mask, steps))?)
}
