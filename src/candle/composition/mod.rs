//! Versions of the ops for devices without Evenkeel kernels. They are composed of candle's own ops.
//!
//! Compositions work on any device, including the CPU, and have the same guards as the kernels. Fully masked rows give
//! zeros, squares do not overflow, and f16 and bf16 are computed in f32. Compared with the kernels, compositions have
//! these limits:
//!
//! - Results are less accurate, because candle computes the sums. Bits may differ between devices.
//! - Only [`attention`] and [`mean_pool`] support masks. For fully masked rows, other ops support only zeros.
//! - [`report::scope`](crate::report::scope) does not count their rows.
//!
//! Candle computes gradients by its own rule for each op of the composition. Exceptions are [`safe_div`] and
//! [`log_add_exp`], whose gradients use explicit derivatives; do not differentiate these gradients, because candle
//! treats the derivatives as constants. [`norm_gradients`] computes the gradients of the norms from their formula.
//! Candle computes second derivatives only if the environment variable `CANDLE_GRAD_DO_NOT_DETACH` is 1.
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
pub use elementwise::*;
pub use loss::{bce_with_logits, cross_entropy, kl_div};
pub use mean_pool::mean_pool;
pub use norm::{
    NormKind, group_norm, l2_normalize, layer_norm, norm_gradients, rms_norm, rms_norm_linear, rms_norm_residual,
};
pub use pairwise::{log_add_exp, safe_div, swiglu};
pub use rope::{qk_norm_rope, rope, rotated};
pub use softmax::{log_softmax, logsumexp, softmax};

pub(crate) use norm::{Range, Unit, batch_and_channels, unit};
pub(crate) use pairwise::{quotient, shares};
pub(crate) use rope::pairs;

use candle_core::{DType, Result, Tensor};

/// Converts an f16 or bf16 tensor to f32 for the computation. Returns any other tensor unchanged.
pub(crate) fn wide(xs: &Tensor) -> Result<Tensor> {
    match xs.dtype() {
        DType::F16 | DType::BF16 => xs.to_dtype(DType::F32),
        _ => Ok(xs.clone()),
    }
}

/// Returns a tensor of the same shape in which every element is `value`.
fn all(like: &Tensor, value: f64) -> Result<Tensor> {
    like.ones_like()?.affine(value, 0.0)
}

/// Returns factor * term. Where the factor is 0, the product is 0, even if the term is infinite or NaN.
pub(crate) fn product(factor: &Tensor, term: &Tensor) -> Result<Tensor> {
    let none = factor.eq(0.0)?;
    factor * none.where_cond(&term.zeros_like()?, term)?
}

/// Clamps the elements to the range from -largest to largest. NaN stays NaN.
pub(crate) fn limited(xs: &Tensor, largest: f64) -> Result<Tensor> {
    let xs = xs.gt(largest)?.where_cond(&all(xs, largest)?, xs)?;
    xs.lt(-largest)?.where_cond(&all(&xs, -largest)?, &xs)
}
