//! Softmax family, composed of candle's own ops.

#![forbid(unsafe_code)]

use super::wide;
use crate::error::Error;
use crate::mask::FullyMasked;
use crate::ops::softmax::Softmax as Options;
use candle_core::shape::Dim;
use candle_core::{Result, Tensor};

/// Computes softmax along an axis, as [`crate::softmax`] does.
///
/// # Errors
/// [`Error::Unavailable`], wrapped in candle's error, if the options have a mask, or if their policy for fully masked
/// rows is not zeros.
pub fn softmax<D: Dim>(xs: &Tensor, dim: D, options: &Options<'_>) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "softmax")?;
    let logits = logits("softmax", xs, options)?;
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    let Terms { exps, sum, .. } = Terms::new(&logits, axis)?;
    exps.broadcast_div(&sum)?.to_dtype(xs.dtype())
}

/// Computes the logarithm of softmax along an axis, as [`crate::log_softmax`] does.
///
/// # Errors
/// The errors of [`softmax`].
pub fn log_softmax<D: Dim>(xs: &Tensor, dim: D, options: &Options<'_>) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "log_softmax")?;
    let logits = logits("log_softmax", xs, options)?;
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    let Terms { distances, sum, .. } = Terms::new(&logits, axis)?;
    distances.broadcast_sub(&sum.log()?)?.to_dtype(xs.dtype())
}

/// Computes the log-sum-exp along an axis, as [`crate::logsumexp`] does. The axis is kept with length 1.
///
/// # Errors
/// The errors of [`softmax`].
pub fn logsumexp<D: Dim>(xs: &Tensor, dim: D, options: &Options<'_>) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "logsumexp")?;
    let logits = logits("logsumexp", xs, options)?;
    if xs.elem_count() == 0 {
        let mut dims = xs.dims().to_vec();
        dims[axis] = 1;
        return Tensor::full(f32::NEG_INFINITY, dims, xs.device())?.to_dtype(xs.dtype());
    }
    let Terms { max, sum, masked, infinite, .. } = Terms::new(&logits, axis)?;
    let finite = (&max + sum.log()?)?;
    let nothing = max.ones_like()?.affine(f64::NEG_INFINITY, 0.0)?;
    let lse = masked.where_cond(&nothing, &finite)?;
    // A row with a logit of +inf must give NaN if it also has a NaN, and +inf otherwise. `finite` is NaN in both cases,
    // from inf - inf. `nan` is NaN if the row has a NaN, and 0 otherwise, so the result is inf + `nan`.
    let nan = logits.ne(&logits)?.where_cond(&logits, &logits.zeros_like()?)?.detach().sum_keepdim(axis)?;
    infinite.where_cond(&(nan + f64::INFINITY)?, &lse)?.to_dtype(xs.dtype())
}

/// Applies scale and softcap to the scores, and returns the logits: f64 for f64 scores, and f32 otherwise.
pub(super) fn logits(op: &'static str, xs: &Tensor, options: &Options<'_>) -> Result<Tensor> {
    options.check(op)?;
    let refuse = |what: &str| {
        let reason = format!("{op} supports {what} only in Evenkeel's kernels; move the tensor to the CPU");
        Error::unavailable("composition", reason)
    };
    if options.mask.is_some_and(|mask| !mask.is_none()) {
        return Err(refuse("masks").into());
    }
    if options.fully_masked != FullyMasked::Zeros {
        return Err(refuse("policies other than FullyMasked::Zeros").into());
    }
    let scores = wide(xs)?;
    if options.scale == 1.0 && options.softcap.is_none() {
        return Ok(scores);
    }
    let scaled = (&scores * options.scale)?;
    let logits = match options.softcap {
        None => scaled,
        Some(cap) => ((scaled / cap)?.tanh()? * cap)?,
    };
    // A score of -inf is a mask and stays -inf.
    scores.eq(f64::NEG_INFINITY)?.where_cond(&scores, &logits)
}

/// Intermediate results of the softmax family, for each lane.
pub(super) struct Terms {
    /// Largest logit, or 0 for a fully masked lane.
    max: Tensor,
    /// Whether the lane is fully masked.
    masked: Tensor,
    /// Whether a logit is +inf.
    infinite: Tensor,
    /// Differences logit - max.
    distances: Tensor,
    pub exps: Tensor,
    /// Sum of the exponentials, or 1 for a fully masked lane.
    pub sum: Tensor,
}

impl Terms {
    pub fn new(logits: &Tensor, axis: usize) -> Result<Self> {
        // The maximum is detached, because its contributions to the gradient cancel.
        let max = logits.detach().max_keepdim(axis)?;
        let infinite = max.eq(f64::INFINITY)?;
        let max = max.eq(f64::NEG_INFINITY)?.where_cond(&max.zeros_like()?, &max)?;
        let distances = logits.broadcast_sub(&max)?;
        let exps = distances.exp()?;
        let sum = exps.sum_keepdim(axis)?;
        let masked = sum.eq(0.0)?;
        let sum = masked.where_cond(&sum.ones_like()?, &sum)?;
        Ok(Terms { max, masked, infinite, distances, exps, sum })
    }
}
