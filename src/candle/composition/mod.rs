//! The ops as compositions of candle's own: what runs on a device that Evenkeel has no kernels for.
//!
//! They work on any device, the CPU included, and keep the guards: rows with nothing to attend to give zeros, squares
//! do not overflow, and f16 and bf16 are computed in f32. What they do not have is the accuracy of the kernels (sums
//! are candle's, and the bits the device's), masks, but of [`attention`] and [`mean_pool`], policies other than zeros, but of
//! the latter, and the counts of [`report::scope`](crate::report::scope).
//!
//! Gradients are candle's, by its own rules for each op of the composition, but of [`safe_div`] and [`log_add_exp`]:
//! theirs are by the op's own slopes. [`norm_gradients`] is what the norms of [`guarded`](super::guarded) have on such a
//! device.
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

mod attention;
mod elementwise;
mod loss;
mod mean_pool;
mod norm;
mod pairwise;
mod rope;
mod softmax;

pub use attention::attention;
pub use elementwise::{
    clamped_exp, clamped_log, erf, exp, exp2, expm1, gelu, gelu_tanh, log, log_sigmoid, log1p, log2, reciprocal, rsqrt,
    sigmoid, silu, softplus, sqrt, tanh,
};
pub use loss::{bce_with_logits, cross_entropy, kl_div};
pub use mean_pool::mean_pool;
pub use norm::{group_norm, l2_normalize, layer_norm, rms_norm, rms_norm_linear, rms_norm_residual};
pub use pairwise::{log_add_exp, safe_div, swiglu};
pub use rope::{qk_norm_rope, rope, rotated};
pub use softmax::{log_softmax, logsumexp, softmax};

pub use super::op::norm::{Kind as NormKind, gradients as norm_gradients};

pub(crate) use norm::{Range, Unit, normalised, unit};
pub(crate) use pairwise::{quotient, shares};
pub(crate) use rope::pairs;

use candle_core::{DType, Result, Tensor};

/// The tensor in the type that it is computed in: f32 for f16 and bf16.
pub(crate) fn wide(xs: &Tensor) -> Result<Tensor> {
    match xs.dtype() {
        DType::F16 | DType::BF16 => xs.to_dtype(DType::F32),
        _ => Ok(xs.clone()),
    }
}

/// A tensor of the same shape, with one value everywhere.
fn all(like: &Tensor, value: f64) -> Result<Tensor> {
    like.ones_like()?.affine(value, 0.0)
}

/// The product, 0 where the factor is, whatever it is a factor of.
pub(crate) fn product(factor: &Tensor, term: &Tensor) -> Result<Tensor> {
    let none = factor.eq(0.0)?;
    factor * none.where_cond(&term.zeros_like()?, term)?
}

/// The tensor with what is beyond the largest magnitude brought to it; NaN stays.
pub(crate) fn limited(xs: &Tensor, largest: f64) -> Result<Tensor> {
    let xs = xs.gt(largest)?.where_cond(&all(xs, largest)?, xs)?;
    xs.lt(-largest)?.where_cond(&all(&xs, -largest)?, &xs)
}
