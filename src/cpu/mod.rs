//! CPU backend: a row kernel for each op, written once for all instruction sets.
//!
//! A kernel is safe code over checked views. It must not check arguments (`ops` does that), use pointers (`simd` does
//! that), or add floats in an order of its own (`math::sum` defines the order).

#![forbid(unsafe_code)]

pub(crate) mod accumulator;
#[cfg(feature = "inference")]
pub(crate) mod attention;
#[cfg(feature = "train")]
pub(crate) mod attention_backward;
#[cfg(feature = "train")]
pub(crate) mod bce_with_logits;
#[cfg(feature = "train")]
pub(crate) mod clip_grad_norm;
#[cfg(feature = "train")]
pub(crate) mod clip_grad_value;
#[cfg(feature = "train")]
pub(crate) mod cross_entropy;
#[cfg(feature = "train")]
pub(crate) mod cross_entropy_backward;
#[cfg(feature = "partial")]
pub(crate) mod cross_entropy_partial;
#[cfg(feature = "partial")]
mod each_row;
pub(crate) mod elementwise;
pub(crate) mod elementwise_backward;
pub(crate) mod exp_sum;
#[cfg(feature = "train")]
mod gradients;
#[cfg(feature = "inference")]
pub(crate) mod group_norm;
#[cfg(feature = "train")]
pub(crate) mod inspect;
mod kernels;
#[cfg(feature = "train")]
pub(crate) mod kl_div;
#[cfg(feature = "inference")]
pub(crate) mod l2_normalize;
pub(crate) mod lanes;
#[cfg(feature = "inference")]
pub(crate) mod layer_norm;
#[cfg(feature = "train")]
pub(crate) mod layer_norm_backward;
#[cfg(feature = "inference")]
pub(crate) mod log_softmax;
#[cfg(feature = "train")]
pub(crate) mod log_softmax_backward;
#[cfg(feature = "train")]
pub(crate) mod log_softmax_backward_from_output;
#[cfg(feature = "inference")]
pub(crate) mod logsumexp;
#[cfg(feature = "train")]
pub(crate) mod logsumexp_backward;
#[cfg(feature = "inference")]
pub(crate) mod mean_pool;
#[cfg(feature = "train")]
pub(crate) mod mean_pool_backward;
pub(crate) mod moments;
#[cfg(feature = "train")]
pub(crate) mod norm_backward;
#[cfg(feature = "train")]
pub(crate) mod norm_columns;
#[cfg(feature = "partial")]
pub(crate) mod norm_partial;
#[cfg(feature = "inference")]
mod norm_rows;
#[cfg(feature = "train")]
pub(crate) mod optimizer;
#[cfg(feature = "train")]
pub(crate) mod output_backward;
pub(crate) mod pairwise;
#[cfg(feature = "sharded")]
pub(crate) mod partial_tiles;
#[cfg(feature = "inference")]
pub(crate) mod qk_norm_rope;
#[cfg(feature = "train")]
pub(crate) mod random;
pub(crate) mod release;
#[cfg(feature = "inference")]
pub(crate) mod rms_norm;
#[cfg(feature = "train")]
pub(crate) mod rms_norm_backward;
#[cfg(feature = "inference")]
pub(crate) mod rms_norm_linear;
#[cfg(feature = "inference")]
pub(crate) mod rope;
#[cfg(feature = "train")]
mod rope_backward;
#[cfg(feature = "train")]
pub(crate) mod row_loss;
#[cfg(feature = "sample")]
pub(crate) mod sample;
pub(crate) mod scores;
#[cfg(feature = "train")]
pub(crate) mod scores_backward;
pub(crate) mod scores_masked;
pub(crate) mod scratch;
#[cfg(feature = "inference")]
mod short_rows;
mod smallest;
#[cfg(feature = "inference")]
pub(crate) mod softmax;
#[cfg(feature = "train")]
pub(crate) mod softmax_backward;
#[cfg(feature = "train")]
pub(crate) mod softmax_backward_from_output;
#[cfg(feature = "partial")]
pub(crate) mod softmax_partial;
#[cfg(feature = "train")]
pub(crate) mod stochastic_rounding;
#[cfg(feature = "inference")]
pub(crate) mod swiglu;
#[cfg(feature = "train")]
pub(crate) mod swiglu_backward;
pub(crate) mod tensor_reduce;
pub(crate) mod transpose;

pub use kernels::Kernels;
