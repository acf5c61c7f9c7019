//! The ops as compositions of candle's own: what runs on a device that Evenkeel has no kernels for.
//!
//! They work on any device, the CPU included, and keep the guards: rows with nothing to attend to give zeros, squares
//! do not overflow, and f16 and bf16 are computed in f32. What they do not have is the accuracy of the kernels (sums
//! are candle's, and the bits the device's), masks, policies other than zeros, and the counts of
//! [`report::scope`](crate::report::scope).
//!
//! Gradients are candle's, by its own rules for each op of the composition.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use evenkeel::{Softmax, candle::composition};
//! let x = Tensor::new(&[[0f32, 0.], [f32::NEG_INFINITY, f32::NEG_INFINITY]], &Device::Cpu)?;
//! let y = composition::softmax(&x, 1, &Softmax::default())?;
//! assert_eq!(y.to_vec2::<f32>()?, [[0.5, 0.5], [0.0, 0.0]]);
//! # Ok::<(), candle_core::Error>(())
//! ```

#![forbid(unsafe_code)]

mod elementwise;
mod loss;
mod norm;
mod rope;
mod softmax;

pub use elementwise::{
    erf, exp, expm1, gelu, gelu_tanh, log, log_sigmoid, log1p, rsqrt, sigmoid, silu, softplus, sqrt, tanh,
};
pub use loss::cross_entropy;
pub use norm::{layer_norm, rms_norm, rms_norm_residual};
pub use rope::{rope, rotated};
pub use softmax::{log_softmax, logsumexp, softmax};

pub(crate) use norm::normalised;
pub(crate) use rope::pairs;

use candle_core::{DType, Result, Tensor};

/// The tensor in the type that it is computed in: f32 for f16 and bf16.
pub(crate) fn wide(xs: &Tensor) -> Result<Tensor> {
    match xs.dtype() {
        DType::F16 | DType::BF16 => xs.to_dtype(DType::F32),
        _ => Ok(xs.clone()),
    }
}
