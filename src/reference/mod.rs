//! Reference implementations, which define the result of every op: plain loops over one row, in higher precision.
//!
//! Kernels are tested against these functions. Other implementations can be tested in the same way. The functions share
//! no code with the kernels and are written for review: no blocks, no threads, and only those transformations of a
//! formula that prevent overflow or cancellation. Each function takes one row, or one element, and returns unrounded
//! numbers of the type [`Element::Exact`]:
//!
//! | storage type | result type | error of the result |
//! |---|---|---|
//! | F32, F16, BF16 | `f64` | a few times 2^-53 |
//! | F64 | [`DoubleDouble`] | a few times 2^-100 |
//!
//! Functions whose name ends in `_of` take [`Real`] numbers instead of stored elements, such as logits with a mask
//! applied.
//!
//! This module has formulas only. Callers must split tensors into rows, broadcast masks, and apply the policies for
//! fully masked rows. `tests/library/reference.rs` compares the results with arbitrary-precision numbers.
//!
//! ```
//! use evenkeel::reference;
//! // Compares a softmax with the exact result.
//! let row = [0.5f32, 1.0, -3.0];
//! let exact = reference::softmax(&row).unwrap_or_default();
//! let mine = evenkeel::softmax(evenkeel::Rows::new(&row, 1, 3)?, &Default::default())?;
//! for (mine, exact) in mine.iter().zip(exact) {
//!     assert!((f64::from(*mine) / exact - 1.0).abs() <= 2.0 * f64::from(f32::EPSILON));
//! }
//! # Ok::<(), evenkeel::Error>(())
//! ```
//!
//! [`Element::Exact`]: crate::Element::Exact

#![forbid(unsafe_code)]

#[cfg(feature = "inference")]
mod attention;
#[cfg(feature = "train")]
mod attention_backward;
#[cfg(feature = "train")]
mod bce_with_logits;
#[cfg(feature = "train")]
mod clip_grad_norm;
#[cfg(feature = "train")]
mod clip_grad_value;
#[cfg(feature = "train")]
mod cross_entropy;
#[cfg(feature = "train")]
mod cross_entropy_backward;
mod elementwise;
#[cfg(feature = "inference")]
mod group_norm;
#[cfg(feature = "train")]
mod inspect;
#[cfg(feature = "train")]
mod kl_div;
#[cfg(feature = "inference")]
mod l2_normalize;
#[cfg(feature = "inference")]
mod layer_norm;
#[cfg(feature = "train")]
mod layer_norm_backward;
#[cfg(feature = "inference")]
mod log_add_exp;
#[cfg(feature = "inference")]
mod log_softmax;
#[cfg(feature = "train")]
mod log_softmax_backward;
#[cfg(feature = "train")]
mod log_softmax_backward_from_output;
mod logits;
#[cfg(feature = "inference")]
mod logsumexp;
#[cfg(feature = "train")]
mod logsumexp_backward;
#[cfg(feature = "inference")]
mod mean_pool;
#[cfg(feature = "train")]
mod mean_pool_backward;
#[cfg(feature = "num-traits")]
mod number;
#[cfg(feature = "inference")]
mod qk_norm_rope;
#[cfg(feature = "inference")]
mod rms_norm;
#[cfg(feature = "train")]
mod rms_norm_backward;
#[cfg(feature = "inference")]
mod rms_norm_linear;
#[cfg(feature = "inference")]
mod rope;
#[cfg(feature = "train")]
mod rope_backward;
#[cfg(feature = "inference")]
mod safe_div;
#[cfg(feature = "sample")]
mod sample;
#[cfg(feature = "inference")]
mod softmax;
#[cfg(feature = "train")]
mod softmax_backward;
#[cfg(feature = "train")]
mod softmax_backward_from_output;
#[cfg(feature = "inference")]
mod swiglu;
#[cfg(feature = "train")]
mod swiglu_backward;

pub use crate::real::{DoubleDouble, Real};
#[cfg(feature = "inference")]
pub use attention::attention_of;
#[cfg(feature = "train")]
pub use attention_backward::{AttentionGradient, attention_backward_of};
#[cfg(feature = "train")]
pub use bce_with_logits::{bce_with_logits, bce_with_logits_backward, focal_loss, focal_loss_backward};
#[cfg(feature = "train")]
pub use clip_grad_norm::{clip_grad_norm, grad_norm};
#[cfg(feature = "train")]
pub use clip_grad_value::clip_grad_value;
#[cfg(feature = "train")]
pub use cross_entropy::cross_entropy;
#[cfg(feature = "train")]
pub use cross_entropy_backward::cross_entropy_backward;
pub use elementwise::*;
#[cfg(feature = "inference")]
pub use group_norm::group_norm;
#[cfg(feature = "train")]
pub use inspect::inspect;
#[cfg(feature = "train")]
pub use kl_div::{kl_div, kl_div_backward, kl_div_log_probs};
#[cfg(feature = "inference")]
pub use l2_normalize::l2_normalize;
#[cfg(feature = "inference")]
pub use layer_norm::layer_norm;
#[cfg(feature = "train")]
pub use layer_norm_backward::{layer_norm_backward, layer_norm_backward_weight};
#[cfg(feature = "inference")]
pub use log_add_exp::log_add_exp;
#[cfg(feature = "inference")]
pub use log_softmax::{log_softmax, log_softmax_of};
#[cfg(feature = "train")]
pub use log_softmax_backward::{log_softmax_backward, log_softmax_backward_of};
#[cfg(feature = "train")]
pub use log_softmax_backward_from_output::{log_softmax_backward_from_output, log_softmax_backward_from_output_of};
pub use logits::{logit_derivatives, logits};
#[cfg(feature = "inference")]
pub use logsumexp::{logsumexp, logsumexp_of};
#[cfg(feature = "train")]
pub use logsumexp_backward::{logsumexp_backward, logsumexp_backward_of};
#[cfg(feature = "inference")]
pub use mean_pool::mean_pool;
#[cfg(feature = "train")]
pub use mean_pool_backward::mean_pool_backward;
#[cfg(feature = "num-traits")]
pub use number::Number;
#[cfg(feature = "inference")]
pub use qk_norm_rope::qk_norm_rope;
#[cfg(feature = "inference")]
pub use rms_norm::{rms_norm, rms_norm_before_weight};
#[cfg(feature = "train")]
pub use rms_norm_backward::{rms_norm_backward, rms_norm_backward_weight};
#[cfg(feature = "inference")]
pub use rms_norm_linear::rms_norm_linear;
#[cfg(feature = "inference")]
pub use rope::{rope, rope_angle, rope_factor};
#[cfg(feature = "train")]
pub use rope_backward::rope_backward;
#[cfg(feature = "inference")]
pub use safe_div::safe_div;
#[cfg(feature = "sample")]
pub use sample::{Support, sample, sample_with_feedback};
#[cfg(feature = "inference")]
pub use softmax::{softmax, softmax_of};
#[cfg(feature = "train")]
pub use softmax_backward::{softmax_backward, softmax_backward_of};
#[cfg(feature = "train")]
pub use softmax_backward_from_output::{softmax_backward_from_output, softmax_backward_from_output_of};
#[cfg(feature = "inference")]
pub use swiglu::swiglu;
#[cfg(feature = "train")]
pub use swiglu_backward::swiglu_backward;
