//! Compositions of the norms.

#![forbid(unsafe_code)]

use super::wide;
use crate::candle::op::norm::{Kind, operand};
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rms_norm::{RmsNorm, Rounding};
use candle_core::{D, DType, Result, Tensor};

/// Root-mean-square normalisation along the last axis, as [`crate::rms_norm`].
///
/// # Errors
/// Candle's, where the weight does not fit.
pub fn rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &RmsNorm<'_>) -> Result<Tensor> {
    options.check("rms_norm")?;
    let weight = operand("rms_norm", "weight", weight, options.weight, xs.device())?;
    let (n, _) = normalised(&wide(xs)?, Kind { centred: false, eps: options.eps })?;
    let n = match options.rounding {
        Rounding::Once => n,
        Rounding::BeforeWeight => wide(&n.to_dtype(xs.dtype())?)?,
    };
    let y = match weight {
        Some(weight) => n.broadcast_mul(&(weight.to_dtype(n.dtype())? + options.weight_offset)?)?,
        None => (n * (1.0 + options.weight_offset))?,
    };
    y.to_dtype(xs.dtype())
}

/// The norm of `xs + residual` and that sum, as [`crate::rms_norm_residual`].
///
/// # Errors
/// Candle's, where the tensors do not fit.
pub fn rms_norm_residual(
    xs: &Tensor,
    residual: &Tensor,
    weight: Option<&Tensor>,
    options: &RmsNorm<'_>,
) -> Result<(Tensor, Tensor)> {
    let sum = (wide(xs)? + wide(residual)?)?.to_dtype(xs.dtype())?;
    Ok((rms_norm(&sum, weight, options)?, sum))
}

/// Layer normalisation along the last axis, as [`crate::layer_norm`].
///
/// # Errors
/// Candle's, where weight or bias do not fit.
pub fn layer_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &LayerNorm<'_>,
) -> Result<Tensor> {
    options.check("layer_norm")?;
    let weight = operand("layer_norm", "weight", weight, options.weight, xs.device())?;
    let bias = operand("layer_norm", "bias", bias, options.bias, xs.device())?;
    let (mut y, _) = normalised(&wide(xs)?, Kind { centred: true, eps: options.eps })?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&weight.to_dtype(y.dtype())?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(y.dtype())?)?;
    }
    y.to_dtype(xs.dtype())
}

/// Powers of two that keep squares in range.
struct Range {
    /// Rows with a magnitude above this are scaled down.
    large: f64,
    /// Rows whose magnitudes are all below this are scaled up, unless eps is so large that they do not matter.
    small: f64,
    shift: f64,
    small_eps: f64,
}

/// x / rms, or (x - mean) / deviation, of each row, and 1 / rms or 1 / deviation, for f32 and f64.
///
/// A row of large or small values is multiplied by a power of two first: exact, and the quotient is the same.
pub(crate) fn normalised(xs: &Tensor, kind: Kind) -> Result<(Tensor, Tensor)> {
    if xs.elem_count() == 0 {
        return Ok((xs.clone(), xs.clone()));
    }
    let range = match xs.dtype() {
        DType::F64 => {
            Range { large: 2f64.powi(500), small: 2f64.powi(-450), shift: 2f64.powi(800), small_eps: 2f64.powi(-600) }
        }
        _ => Range { large: 2f64.powi(60), small: 2f64.powi(-50), shift: 2f64.powi(100), small_eps: 2f64.powi(-100) },
    };
    let magnitude = xs.detach().abs()?.max_keepdim(D::Minus1)?;
    let one = magnitude.ones_like()?;
    let scale = magnitude.gt(range.large)?.where_cond(&one.affine(1.0 / range.shift, 0.0)?, &one)?;
    let scale = if kind.eps < range.small_eps {
        magnitude.lt(range.small)?.where_cond(&one.affine(range.shift, 0.0)?, &scale)?
    } else {
        scale
    };
    let mut x = xs.broadcast_mul(&scale)?;
    if kind.centred {
        x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        // The mean was rounded, which matters to a spread far below it. That of what is left hardly is.
        x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    }
    let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
    let variance = (variance + (&scale * kind.eps.sqrt())?.sqr()?)?;
    // A row of zeros without eps: its quotients are zeros.
    let variance = variance.eq(0.0)?.where_cond(&one, &variance)?;
    let inverse = variance.sqrt()?.recip()?;
    Ok((x.broadcast_mul(&inverse)?, (inverse * scale)?))
}
