//! Checks that the kernels give the same bits as the CPU for any shape, alignment, inputs and thread order.

mod adamw;
mod attention_decode;
mod backward;
mod clip_grad_norm;
mod cross_entropy;
mod elementwise;
mod faults;
mod heads;
mod layer_norm;
mod log_softmax;
mod masked;
mod masked_backward;
mod norm_backward;
mod qk_norm_rope;
mod rms_norm;
mod rope;
mod sample;
mod softmax;
mod support;
mod swiglu_backward;
