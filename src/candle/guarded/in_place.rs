//! In-place ops for contiguous tensors on the CPU.
//!
//! Views and clones that share the tensor's memory see the result. If candle tracks the tensor for gradients, the ops
//! return an error, because the backward pass would read the overwritten values. `copy()?.detach()` returns a tensor
//! that can be overwritten. `detach` alone does not copy: overwriting its result also overwrites the tracked tensor,
//! and the gradients are then wrong.

#![forbid(unsafe_code)]

use crate::candle::custom_op::{overwrite, share_memory};
use crate::candle::op::softmax::{Function, SoftmaxOp};
use crate::candle::op::{clamped, elementwise, group_norm, l2_normalize, layer_norm, norm, rms_norm, rope};
use crate::candle::support::on_cpu;
use crate::error::{Error, Result};
use crate::for_each_elementwise;
use crate::ops::clamped_exp::ClampedExp;
use crate::ops::clamped_log::ClampedLog;
use crate::ops::group_norm::GroupNorm;
use crate::ops::l2_normalize::L2Normalize;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rope::RopeTable;
use crate::ops::softmax::Softmax;
use candle_core::Tensor;
use candle_core::shape::Dim;

/// Checks that the op can overwrite the tensor.
fn writable(xs: &Tensor, op: &'static str) -> Result<()> {
    if !on_cpu(xs, op)? {
        let backend = format!("{:?}", xs.device().location());
        return Err(Error::unavailable(backend, format!("in-place {op} runs on the CPU only; use {op} instead")));
    }
    if !xs.is_contiguous() {
        let value = format!("a tensor of shape {:?} and strides {:?}", xs.dims(), xs.stride());
        return Err(Error::invalid(op, "x", value, "contiguous, because the op overwrites it"));
    }
    if xs.track_op() {
        let value = "a tensor that candle tracks for gradients";
        return Err(Error::invalid(
            op,
            "x",
            value,
            "a copy that candle does not track, such as x.copy()?.detach(), because the op overwrites it",
        ));
    }
    Ok(())
}

/// Checks that no operand shares memory with the tensor that the op overwrites.
fn apart(xs: &Tensor, operands: &[Tensor], op: &'static str) -> Result<()> {
    if operands.iter().any(|operand| share_memory(operand, xs)) {
        return Err(Error::invalid(op, "x", "a tensor that shares memory with an operand", "in separate memory"));
    }
    Ok(())
}

/// Replaces `xs` by its [`softmax`](super::softmax).
///
/// # Errors
/// The errors of [`softmax`](super::softmax). [`Error::InvalidArgument`] for a tensor that is not contiguous or that
/// candle tracks for gradients; [`Error::Unavailable`] for a tensor that is not on the CPU.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{Softmax, candle::guarded};
/// let x = Tensor::new(&[[0f32, 0.]], &Device::Cpu)?;
/// guarded::softmax_in_place(&x, 1, &Softmax::default())?;
/// assert_eq!(x.to_vec2::<f32>()?, [[0.5, 0.5]]);
/// assert!(guarded::softmax_in_place(&x.t()?.expand((2, 3))?, 1, &Softmax::default()).is_err());
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn softmax_in_place<D: Dim>(xs: &Tensor, dim: D, options: &Softmax<'_>) -> Result<()> {
    let axis = dim.to_index(xs.shape(), "softmax")?;
    writable(xs, "softmax")?;
    Ok(overwrite(xs, &[], SoftmaxOp::new(Function::Softmax, axis, options))?)
}

/// Replaces `xs` by its [`log_softmax`](super::log_softmax).
///
/// # Errors
/// The errors of [`softmax_in_place`].
pub fn log_softmax_in_place<D: Dim>(xs: &Tensor, dim: D, options: &Softmax<'_>) -> Result<()> {
    let axis = dim.to_index(xs.shape(), "log_softmax")?;
    writable(xs, "log_softmax")?;
    Ok(overwrite(xs, &[], SoftmaxOp::new(Function::LogSoftmax, axis, options))?)
}

/// Replaces `xs` by its [`rms_norm`](super::rms_norm).
///
/// # Errors
/// The errors of [`rms_norm`](super::rms_norm) and [`softmax_in_place`].
pub fn rms_norm_in_place(xs: &Tensor, weight: Option<&Tensor>, options: &RmsNorm<'_>) -> Result<()> {
    writable(xs, rms_norm::NAME)?;
    let weight = norm::operand(rms_norm::NAME, "weight", weight, options.weight, xs.device())?;
    apart(xs, weight.as_slice(), rms_norm::NAME)?;
    Ok(overwrite(xs, weight.as_slice(), rms_norm::RmsNorm::new(options))?)
}

/// Replaces `xs` by its [`layer_norm`](super::layer_norm).
///
/// # Errors
/// The errors of [`layer_norm`](super::layer_norm) and [`softmax_in_place`].
pub fn layer_norm_in_place(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &LayerNorm<'_>,
) -> Result<()> {
    writable(xs, layer_norm::NAME)?;
    let operands = layer_norm::operands(xs, weight, bias, options)?;
    apart(xs, &operands, layer_norm::NAME)?;
    Ok(overwrite(xs, &operands, layer_norm::LayerNorm::new(options))?)
}

/// Replaces `xs` by its [`group_norm`](super::group_norm).
///
/// # Errors
/// The errors of [`group_norm`](super::group_norm) and [`softmax_in_place`].
pub fn group_norm_in_place(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &GroupNorm<'_>,
) -> Result<()> {
    writable(xs, group_norm::NAME)?;
    let operands = group_norm::operands(xs, weight, bias, options)?;
    apart(xs, &operands, group_norm::NAME)?;
    Ok(overwrite(xs, &operands, group_norm::GroupNorm::new(options))?)
}

/// Replaces `xs` by its [`l2_normalize`](super::l2_normalize).
///
/// # Errors
/// The errors of [`l2_normalize`](super::l2_normalize) and [`softmax_in_place`].
pub fn l2_normalize_in_place<D: Dim>(xs: &Tensor, dim: D, options: &L2Normalize) -> Result<()> {
    let axis = dim.to_index(xs.shape(), "l2_normalize")?;
    writable(xs, "l2_normalize")?;
    Ok(overwrite(xs, &[], l2_normalize::L2Normalize { axis, options: *options })?)
}

/// Replaces `xs` by its [`clamped_exp`](super::clamped_exp).
///
/// # Errors
/// The errors of [`clamped_exp`](super::clamped_exp) and [`softmax_in_place`].
pub fn clamped_exp_in_place(xs: &Tensor, options: &ClampedExp) -> Result<()> {
    writable(xs, "clamped_exp")?;
    Ok(overwrite(xs, &[], clamped::ClampedExp(*options))?)
}

/// Replaces `xs` by its [`clamped_log`](super::clamped_log).
///
/// # Errors
/// The errors of [`clamped_log`](super::clamped_log) and [`softmax_in_place`].
pub fn clamped_log_in_place(xs: &Tensor, options: &ClampedLog) -> Result<()> {
    writable(xs, "clamped_log")?;
    Ok(overwrite(xs, &[], clamped::ClampedLog(*options))?)
}

/// Replaces `xs` by its [`rope`](super::rope).
///
/// # Errors
/// The errors of [`rope`](super::rope) and [`softmax_in_place`].
pub fn rope_in_place(xs: &Tensor, table: &RopeTable) -> Result<()> {
    writable(xs, rope::NAME)?;
    Ok(overwrite(xs, &[], rope::Rope(table.clone()))?)
}

macro_rules! elementwise_in_place {
    ($($name:ident $Op:ident $formula:literal [$into:ident $in_place:ident] $derivative:ident $gradient:tt;)*) => {$(
        #[doc = concat!("Replaces `xs` by its [`", stringify!($name), "`](super::", stringify!($name), ").")]
        ///
        /// # Errors
        /// The errors of [`softmax_in_place`].
        pub fn $in_place(xs: &Tensor) -> Result<()> {
            writable(xs, stringify!($name))?;
            Ok(overwrite(xs, &[], elementwise::$Op)?)
        }
    )*};
}
for_each_elementwise!(elementwise_in_place);
