//! The ops on candle tensors. Each file has an op's kernels for all devices, its gradient and its in-place version.
//!
//! The drop-ins and the functions in [`guarded`](super::guarded) call these ops. The ops call the slice functions,
//! which check the arguments.

#![forbid(unsafe_code)]

pub mod attention;
pub mod bce_with_logits;
pub mod clamped;
pub mod cross_entropy;
pub mod elementwise;
pub mod formula;
pub mod group_norm;
pub mod kl_div;
pub mod l2_normalize;
pub mod layer_norm;
pub mod linear_cross_entropy;
pub mod mean_pool;
pub mod norm;
pub mod pairwise;
pub mod qk_norm_rope;
pub mod rms_norm;
pub mod rms_norm_linear;
pub mod rms_norm_residual;
pub mod rope;
pub mod row_loss;
pub mod sample;
pub mod softmax;
pub mod swiglu;
