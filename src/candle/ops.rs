//! All of [`candle_nn::ops`], with some ops replaced by Evenkeel's ops, which have the same signatures.
//!
//! Evenkeel's ops differ from candle's ops as follows:
//!
//! - Sums of f16 and bf16 values are computed in a wider type, and results are rounded once. The softmax of a bf16 row
//!   of 131,072 equal logits adds up to 1; candle's adds up to 512.
//! - Tensors may have any layout, even where candle requires contiguous ones. All ops support f64. Weights may have
//!   another float type than the rows.
//! - All ops have gradients, including those without a gradient in candle.
//! - Where candle panics, these ops return an error, or an empty result for an empty tensor.
//! - Tensors of f8, a float type that only candle supports, are passed to candle's op. Integer tensors give candle's
//!   error.
//! - Tensors that are not on the CPU use [compositions](super::composition) of candle's ops, or CUDA kernels with
//!   feature `candle-cuda`.

#![forbid(unsafe_code)]

pub use candle_nn::ops::*;

use super::op;
use super::support::is_foreign;
use crate::math::sum::MAX_TERMS;
use crate::{LayerNorm, RmsNorm, Softmax};
use candle_core::shape::Dim;
use candle_core::{D, Error, Result, Shape, Tensor};

/// Computes softmax along a dimension.
///
/// A row that contains only -inf gives zeros; candle gives NaN. For all other rows, the values are as in
/// [`crate::softmax`]; shape and type are as in [`candle_nn::ops::softmax`].
///
/// # Errors
/// Candle's error for a dimension that is out of range, and for an integer type.
///
/// ```
/// use candle_core::{D, Device, Tensor};
/// use evenkeel::candle::ops;
/// let inf = f32::INFINITY;
/// let x = Tensor::new(&[[0f32, 0., -inf], [-inf, -inf, -inf]], &Device::Cpu)?;
/// let y = ops::softmax(&x, D::Minus1)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn softmax<D: Dim>(xs: &Tensor, dim: D) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "softmax")?;
    if is_foreign(xs) {
        return candle_nn::ops::softmax(xs, axis);
    }
    match xs.dims()[axis] {
        ..=MAX_TERMS => op::softmax::softmax(xs, axis, &Softmax::default()),
        _ => super::composition::softmax(xs, axis, &Softmax::default()),
    }
}

/// Computes softmax along the last dimension; see [`softmax`].
///
/// # Errors
/// The errors of [`softmax`].
pub fn softmax_last_dim(xs: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::ops::softmax_last_dim(xs);
    }
    softmax(xs, D::Minus1)
}

/// Computes the logarithm of softmax along a dimension.
///
/// A row that contains only -inf gives -inf; candle gives NaN. For all other rows, the values are as in
/// [`crate::log_softmax`]; shape and type are as in [`candle_nn::ops::log_softmax`].
///
/// # Errors
/// The errors of [`softmax`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::ops;
/// let x = Tensor::new(&[[40f32, 0.]], &Device::Cpu)?;
/// assert_eq!(ops::log_softmax(&x, 1)?.to_vec2::<f32>()?, [[-4.248354e-18, -40.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn log_softmax<D: Dim>(xs: &Tensor, d: D) -> Result<Tensor> {
    let axis = d.to_index(xs.shape(), "log_softmax")?;
    if is_foreign(xs) {
        return candle_nn::ops::log_softmax(xs, axis);
    }
    match xs.dims()[axis] {
        ..=MAX_TERMS => op::softmax::log_softmax(xs, axis, &Softmax::default()),
        _ => super::composition::log_softmax(xs, axis, &Softmax::default()),
    }
}

/// Computes root-mean-square normalisation along the last dimension, multiplied by `alpha`.
///
/// The result is also correct for values whose squares overflow f32. The values are as in [`crate::rms_norm`]; shape
/// and type are as in [`candle_nn::ops::rms_norm`].
///
/// # Errors
/// Candle's error if `alpha` does not have one value for each column, or if the type is an integer type. If `eps` is
/// negative or not finite, candle's error wraps [`Error::InvalidArgument`](crate::Error::InvalidArgument).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use evenkeel::candle::ops;
/// let x = Tensor::new(&[[1e20f32, -1e20]], &Device::Cpu)?;
/// let y = ops::rms_norm(&x, &Tensor::ones(2, DType::F32, &Device::Cpu)?, 1e-6)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0, -1.0]]); // candle: zeros
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn rms_norm(xs: &Tensor, alpha: &Tensor, eps: f32) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::ops::rms_norm(xs, alpha, eps);
    }
    one_a_column("rms_norm", xs, alpha)?;
    op::rms_norm::rms_norm(xs, Some(alpha), &RmsNorm::default().eps(eps.into()))
}

/// Computes layer normalisation along the last dimension, multiplied by `alpha`, plus `beta`.
///
/// Rows whose spread is far smaller than their values are normalised correctly. The values are as in
/// [`crate::layer_norm`]; shape and type are as in [`candle_nn::ops::layer_norm`].
///
/// # Errors
/// The errors of [`rms_norm`], for `alpha` and for `beta`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use evenkeel::candle::ops;
/// let x = Tensor::new(&[[40000f32, 40001., 40002., 40003.]], &Device::Cpu)?;
/// let (ones, zeros) = (Tensor::ones(4, DType::F32, &Device::Cpu)?, Tensor::zeros(4, DType::F32, &Device::Cpu)?);
/// let y = ops::layer_norm(&x, &ones, &zeros, 1e-5)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1.3416355, -0.4472118, 0.4472118, 1.3416355]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn layer_norm(xs: &Tensor, alpha: &Tensor, beta: &Tensor, eps: f32) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::ops::layer_norm(xs, alpha, beta, eps);
    }
    one_a_column("layer_norm", xs, alpha)?;
    one_a_column("layer_norm", xs, beta)?;
    op::layer_norm::layer_norm(xs, Some(alpha), Some(beta), &LayerNorm::default().eps(eps.into()))
}

/// Computes 1 / (1 + e^-x) of each element, as [`crate::sigmoid`] does.
///
/// # Errors
/// Candle's error for an integer type.
pub fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::ops::sigmoid(xs);
    }
    op::elementwise::sigmoid(xs)
}

/// Computes x / (1 + e^-x) of each element, as [`crate::silu`] does. The result at -inf is -0; candle gives NaN.
///
/// # Errors
/// The errors of [`sigmoid`].
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::ops::silu(xs);
    }
    op::elementwise::silu(xs)
}

/// Computes `silu(a) * b`, where a is the first half of the last dimension, and b is the second half. The result is
/// rounded once.
///
/// # Errors
/// The errors of [`sigmoid`]; also candle's error for a last dimension of odd length.
pub fn swiglu(xs: &Tensor) -> Result<Tensor> {
    let cols = xs.dim(D::Minus1)?;
    if cols % 2 == 1 {
        return Err(Error::ShapeMismatchSplit { shape: xs.shape().clone(), dim: xs.rank() - 1, n_parts: 2 }.bt());
    }
    let (gate, up) = (xs.narrow(D::Minus1, 0, cols / 2)?, xs.narrow(D::Minus1, cols / 2, cols / 2)?);
    if is_foreign(xs) { silu(&gate)? * up } else { op::swiglu::swiglu(&gate, &up) }
}

/// Checks that an operand of a norm has one value for each column.
fn one_a_column(op: &'static str, xs: &Tensor, operand: &Tensor) -> Result<()> {
    if operand.dims1()? == xs.dim(D::Minus1)? {
        return Ok(());
    }
    let of = |tensor: &Tensor| Shape::from(tensor.dims());
    Err(Error::ShapeMismatchBinaryOp { lhs: of(xs), rhs: of(operand), op }.bt())
}
