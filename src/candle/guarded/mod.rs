//! Ops on candle tensors with features that candle's signatures lack: masks, policies for fully masked rows, scale and
//! softcap, in-place versions, and typed errors.
//!
//! The functions take the same options as the slice functions, with tensors instead of slices.
//!
//! - Errors are [`crate::Error`]. Candle's own errors become [`Error::Framework`](crate::Error::Framework) with
//!   candle's message. A type that Evenkeel does not support is
//!   [`Error::UnsupportedDType`](crate::Error::UnsupportedDType).
//! - [`report::scope`](crate::report::scope) counts guard events, as it does for the slice functions.
//! - The arguments that have gradients are the same as in the drop-in functions. Gradients take scale and softcap into
//!   account. Masked elements have a gradient of zero.
//! - A tensor that is not on the CPU uses the [`composition`](super::composition), or a CUDA kernel with feature
//!   `candle-cuda`. Except in [`attention`] and [`mean_pool`], the composition returns
//!   [`Error::Unavailable`](crate::Error::Unavailable) for masks, and for policies other than zeros for fully masked
//!   rows. The in-place ops return this error for any tensor that is not on the CPU.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use evenkeel::{Mask, Softmax, candle::guarded};
//! // Two sequences of up to three keys with a causal mask; the second sequence has only two keys.
//! let scores = Tensor::zeros((2, 3, 3), DType::BF16, &Device::Cpu)?;
//! let mask = Mask::causal().and_lengths(&[3, 2]);
//! let weights = guarded::softmax(&scores, 2, &Softmax::default().mask(&mask).scale(0.125))?;
//! let last = weights.get(1)?.get(2)?.to_dtype(DType::F32)?;
//! assert_eq!(last.to_vec1::<f32>()?, [0.5, 0.5, 0.0]);
//! # Ok::<(), evenkeel::Error>(())
//! ```

#![forbid(unsafe_code)]

mod attention;
pub(super) mod clip;
mod elementwise;
mod in_place;
mod linear_loss;
mod loss;
pub mod mask;
mod mean_pool;
mod norm;
mod pairwise;
mod rope;
mod sample;
mod softmax;
mod trace;

pub use attention::attention;
pub use clip::{adaptive_clip, clip_grad_norm, clip_grad_value, finite, inspect, unscale};
pub use elementwise::*;
pub use in_place::*;
pub use linear_loss::linear_cross_entropy;
pub use loss::{bce_with_logits, cross_entropy, kl_div};
pub use mean_pool::mean_pool;
pub use norm::{group_norm, l2_normalize, layer_norm, rms_norm, rms_norm_linear, rms_norm_residual};
pub use pairwise::{log_add_exp, safe_div, swiglu};
pub use rope::{qk_norm_rope, rope};
pub use sample::{distributions, sample_requests, sample_rows};
pub use softmax::{log_softmax, logsumexp, softmax};
pub use trace::{Point, trace_point};
