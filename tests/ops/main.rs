//! Tests of every op, one file each. An op must be accurate on the inputs of `support`, handle NaN, infinities and
//! masks, and give the same bits in every form: allocating, writing to a buffer, and in place. All files are part of
//! one program, because linking a program takes as long as compiling its tests.

#![forbid(unsafe_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod attention;
mod attention_backward;
mod attention_chains;
mod attention_partial;
mod attention_vectors;
mod bce_with_logits;
mod clamped_exp;
mod clamped_log;
mod clip_grad_norm;
mod clip_grad_value;
mod cross_entropy;
mod cross_entropy_backward;
mod cross_entropy_partial;
mod elementwise_backward;
mod erf;
mod exp;
mod exp2;
mod expm1;
mod focal_loss;
mod gelu;
mod gelu_tanh;
mod group_norm;
mod inspect;
mod kl_div;
mod l2_normalize;
mod layer_norm;
mod layer_norm_backward;
mod log;
mod log1p;
mod log2;
mod log_add_exp;
mod log_sigmoid;
mod log_softmax;
mod log_softmax_backward;
mod log_softmax_backward_from_output;
mod logsumexp;
mod logsumexp_backward;
mod long_rows;
mod losses;
mod mean_pool;
mod mean_pool_backward;
mod norm_partial;
mod norm_search;
mod norm_search_backward;
mod norm_search_f64;
mod qk_norm_rope;
mod reciprocal;
mod rms_norm;
mod rms_norm_backward;
mod rms_norm_linear;
mod rope;
mod rope_backward;
mod rsqrt;
mod safe_div;
mod sample;
mod sample_accuracy;
mod sample_draws;
mod sample_dry;
mod sample_feedback;
mod sample_prefix;
mod sample_profiles;
mod sample_ranges;
mod sample_sequence;
mod sigmoid;
mod silu;
mod softmax;
mod softmax_backward;
mod softmax_backward_from_output;
mod softmax_logits;
mod softmax_partial;
mod softplus;
mod sqrt;
mod swiglu;
mod swiglu_backward;
mod tanh;
