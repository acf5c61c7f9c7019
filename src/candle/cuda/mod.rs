//! The ops for tensors that are not on the CPU.
//!
//! CUDA devices of compute capability 8.0 and above have kernels for rows and elements of f32, f16 and bf16. Everything
//! else uses compositions.

#![forbid(unsafe_code)]

mod elementwise;
mod kernel;
mod norm;
mod rope;
mod softmax;

pub use elementwise::{
    clamped_exp, clamped_log, erf, exp, exp2, expm1, gelu, gelu_tanh, log, log_add_exp, log_sigmoid, log1p, log2,
    reciprocal, rsqrt, safe_div, sigmoid, silu, softplus, sqrt, tanh,
};
pub use norm::{layer_norm, rms_norm, rms_norm_residual};
pub use rope::rope;
pub use softmax::{log_softmax, logsumexp, softmax};

use candle_core::{DType, Device, Tensor};

/// Returns whether the kernels support the tensor.
fn is_taken(xs: &Tensor) -> bool {
    let Device::Cuda(device) = xs.device() else { return false };
    let context = device.cuda_stream();
    let is_new = context.context().compute_capability().is_ok_and(|(major, _)| major >= 8);
    is_new && xs.elem_count() > 0 && matches!(xs.dtype(), DType::F32 | DType::F16 | DType::BF16)
}
