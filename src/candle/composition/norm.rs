//! Norms, composed of candle's own ops.

#![forbid(unsafe_code)]

use super::wide;
use crate::candle::op::norm::operand;
use crate::error::Error;
use crate::math::bins::power_of_two;
use crate::ops::group_norm::GroupNorm;
use crate::ops::l2_normalize::L2Normalize;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rms_norm::{RmsNorm, Rounding};
use crate::ops::rms_norm_linear::RmsNormLinear;
use candle_core::shape::Dim;
use candle_core::{D, DType, Result, Tensor};

const GROUP_NORM: &str = "group_norm";

/// Computes root-mean-square normalisation along the last axis, as [`crate::rms_norm`] does.
///
/// # Errors
/// Candle's error for a weight whose shape does not match.
pub fn rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &RmsNorm<'_>) -> Result<Tensor> {
    wide_rms_norm(xs, weight, options)?.to_dtype(xs.dtype())
}

/// Computes root-mean-square normalisation followed by a linear layer, as [`crate::rms_norm_linear`] does.
///
/// # Errors
/// Candle's error for tensors whose shapes do not match.
pub fn rms_norm_linear(
    xs: &Tensor,
    matrix: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &RmsNormLinear<'_>,
) -> Result<Tensor> {
    let n = wide_rms_norm(xs, weight, &options.norm)?;
    let n = if options.rounded { wide(&n.to_dtype(xs.dtype())?)? } else { n };
    let y = n.broadcast_matmul(&wide(matrix)?.t()?)?;
    let y = match operand("rms_norm_linear", "bias", bias, options.bias, xs.device())? {
        Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
        None => y,
    };
    y.to_dtype(xs.dtype())
}

/// Computes root-mean-square normalisation without the final rounding to the tensor's type.
fn wide_rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &RmsNorm<'_>) -> Result<Tensor> {
    options.check("rms_norm")?;
    let weight = operand("rms_norm", "weight", weight, options.weight, xs.device())?;
    let (n, _) = normalised(&wide(xs)?, NormKind { centred: false, eps: options.eps })?;
    let n = match options.rounding {
        Rounding::Once => n,
        Rounding::BeforeWeight => wide(&n.to_dtype(xs.dtype())?)?,
    };
    match weight {
        Some(weight) => n.broadcast_mul(&(weight.to_dtype(n.dtype())? + options.weight_offset)?),
        None => n * (1.0 + options.weight_offset),
    }
}

/// Returns two tensors, as [`crate::rms_norm_residual`] does: the normalised sum `xs + residual`, and the sum itself.
///
/// # Errors
/// Candle's error for tensors whose shapes do not match.
pub fn rms_norm_residual(
    xs: &Tensor,
    residual: &Tensor,
    weight: Option<&Tensor>,
    options: &RmsNorm<'_>,
) -> Result<(Tensor, Tensor)> {
    let sum = (wide(xs)? + wide(residual)?)?.to_dtype(xs.dtype())?;
    Ok((rms_norm(&sum, weight, options)?, sum))
}

/// Computes layer normalisation along the last axis, as [`crate::layer_norm`] does.
///
/// # Errors
/// Candle's error for a weight or bias whose shape does not match.
pub fn layer_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &LayerNorm<'_>,
) -> Result<Tensor> {
    options.check("layer_norm")?;
    let weight = operand("layer_norm", "weight", weight, options.weight, xs.device())?;
    let bias = operand("layer_norm", "bias", bias, options.bias, xs.device())?;
    let (mut y, _) = normalised(&wide(xs)?, NormKind { centred: true, eps: options.eps })?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&weight.to_dtype(y.dtype())?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(y.dtype())?)?;
    }
    y.to_dtype(xs.dtype())
}

/// Computes group normalisation along axis 1, as [`crate::group_norm`] does.
///
/// # Errors
/// The errors of [`crate::group_norm`], wrapped in candle's error; candle's error for a weight or bias whose shape does
/// not match.
pub fn group_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &GroupNorm<'_>,
) -> Result<Tensor> {
    let (batch, channels) = batch_and_channels(xs)?;
    options.check(channels)?;
    let weight = operand(GROUP_NORM, "weight", weight, options.weight, xs.device())?;
    let bias = operand(GROUP_NORM, "bias", bias, options.bias, xs.device())?;
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    let groups = wide(xs)?.reshape((batch * options.groups, ()))?;
    let (y, _) = normalised(&groups, NormKind { centred: true, eps: options.eps })?;
    let mut y = y.reshape(xs.shape())?;
    let mut of_channels = vec![1; xs.rank()];
    of_channels[1] = channels;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&weight.to_dtype(y.dtype())?.reshape(of_channels.as_slice())?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(y.dtype())?.reshape(of_channels)?)?;
    }
    y.to_dtype(xs.dtype())
}

/// Divides each lane along an axis by its Euclidean norm, as [`crate::l2_normalize`] does.
///
/// # Errors
/// The errors of [`crate::l2_normalize`], wrapped in candle's error.
pub fn l2_normalize<D: Dim>(xs: &Tensor, dim: D, options: &L2Normalize) -> Result<Tensor> {
    let axis = dim.to_index(xs.shape(), "l2_normalize")?;
    options.check()?;
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    unit(&wide(xs)?, axis, options.eps)?.y.to_dtype(xs.dtype())
}

/// Thresholds and powers of two that keep squares within the type's range.
pub(crate) struct Range {
    /// Upper threshold of magnitude. A lane with a larger magnitude is scaled down, so that the lane's sum of squares
    /// cannot overflow.
    large: f64,
    /// Lower threshold of magnitude. A lane in which all magnitudes are smaller is scaled up if eps is below
    /// `small_eps`.
    small: f64,
    /// Power of two by which large lanes are divided and small lanes are multiplied.
    shift: f64,
    /// Upper limit of eps: small lanes are scaled up only if eps is below it. A larger eps dominates the squares of a
    /// small lane.
    small_eps: f64,
}

impl Range {
    pub fn of(xs: &Tensor) -> Self {
        let two = power_of_two;
        match xs.dtype() {
            DType::F64 => Range { large: two(500), small: two(-450), shift: two(800), small_eps: two(-600) },
            _ => Range { large: two(40), small: two(-50), shift: two(100), small_eps: two(-100) },
        }
    }

    /// Returns a factor for each lane. The factor is a power of two. It is below 1 for large lanes, above 1 for small
    /// lanes if `up` is set, and 1 for all other lanes.
    pub fn scale<D: Dim>(&self, xs: &Tensor, dim: D, up: bool) -> Result<Tensor> {
        let magnitude = xs.detach().abs()?.max_keepdim(dim)?;
        let one = magnitude.ones_like()?;
        let scale = magnitude.gt(self.large)?.where_cond(&one.affine(1.0 / self.shift, 0.0)?, &one)?;
        if !up {
            return Ok(scale);
        }
        magnitude.lt(self.small)?.where_cond(&one.affine(self.shift, 0.0)?, &scale)
    }
}

/// Returns the normalised rows and the reciprocal of each row's divisor. `xs` must be f32 or f64.
///
/// A normalised row is x / rms or (x - mean) / deviation. Rows of large or small values are first multiplied by a power
/// of two. This multiplication is exact, and does not change the quotient.
pub(crate) fn normalised(xs: &Tensor, kind: NormKind) -> Result<(Tensor, Tensor)> {
    if xs.elem_count() == 0 {
        return Ok((xs.clone(), xs.clone()));
    }
    let range = Range::of(xs);
    let scale = range.scale(xs, D::Minus1, kind.eps < range.small_eps)?;
    let mut x = xs.broadcast_mul(&scale)?;
    if kind.centred {
        x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        // The rounding error of the mean matters if the spread is far smaller than the mean. The mean of the centred
        // values is this error, and the next line subtracts it.
        x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    }
    let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
    let variance = (variance + (&scale * kind.eps.sqrt())?.sqr()?)?;
    // If variance and eps are both 0, the divisor is 1, so the result is 0.
    let variance = variance.eq(0.0)?.where_cond(&scale.ones_like()?, &variance)?;
    let inverse = variance.sqrt()?.recip()?;
    Ok((x.broadcast_mul(&inverse)?, (inverse * scale)?))
}

/// Lanes divided by their Euclidean norm, or by eps where the norm is below eps.
pub(crate) struct Unit {
    /// The quotient x / max(norm, eps).
    pub y: Tensor,
    /// Reciprocal 1 / max(norm, eps) of each lane, or 0 if norm and eps are 0.
    pub inverse: Tensor,
    /// Whether the lane's norm is at most eps.
    pub is_short: Tensor,
}

/// Divides lanes by their norms. `xs` must be f32 or f64 and not empty.
pub(crate) fn unit(xs: &Tensor, axis: usize, eps: f64) -> Result<Unit> {
    let range = Range::of(xs);
    let scale = range.scale(xs, axis, eps < range.small_eps.sqrt())?;
    let x = xs.broadcast_mul(&scale)?;
    let (zero, one) = (scale.zeros_like()?, scale.ones_like()?);
    let squares = x.sqr()?.sum_keepdim(axis)?;
    // The derivative of the square root is infinite at 0. A sum of squares that is 0 is therefore replaced by 1 before
    // the root is taken, and the root is set to 0.
    let is_zero = squares.eq(0.0)?;
    let norm = is_zero.where_cond(&one, &squares)?.sqrt()?;
    let norm = is_zero.where_cond(&zero, &norm)?;
    let least = (&scale * eps)?;
    let is_short = norm.le(&least)?;
    let divisor = is_short.where_cond(&least, &norm)?;
    let is_zero = divisor.eq(0.0)?;
    let inverse = is_zero.where_cond(&zero, &is_zero.where_cond(&one, &divisor)?.recip()?)?;
    Ok(Unit { y: x.broadcast_mul(&inverse)?, inverse: (inverse * scale)?, is_short })
}

/// Normalisation that a norm applies before its weight: x / rms, or (x - mean) / deviation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NormKind {
    /// Whether the mean is subtracted.
    pub centred: bool,
    /// Number that is added to the mean square or the variance.
    pub eps: f64,
}

impl NormKind {
    /// Normalisation of rms_norm: x / rms.
    pub fn rms(eps: f64) -> Self {
        NormKind { centred: false, eps }
    }

    /// Normalisation of layer_norm: (x - mean) / deviation.
    pub fn layer(eps: f64) -> Self {
        NormKind { centred: true, eps }
    }
}

/// Computes the gradients of `normalised(x) * weight + bias` with respect to x, weight and bias. An argument that
/// candle does not track gets `None`.
///
/// With `n = normalised(x)`, `h = dy * weight`, and `r` = 1 / rms or 1 / deviation:
/// - The gradient of x is `r * (h - mean(h) - n * mean(h * n))`. The term `mean(h)` is left out if the norm does not
///   subtract the mean of x.
/// - The gradient of the weight is the sum of `dy * n` over all rows.
/// - The gradient of the bias is the sum of `dy` over all rows.
///
/// # Errors
/// Candle's error for tensors whose shapes do not match.
pub fn norm_gradients(
    kind: NormKind,
    args: &[&Tensor],
    weight: Option<&Tensor>,
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let xs = args[0];
    if xs.elem_count() == 0 {
        return args.iter().map(|arg| arg.zeros_like().map(Some)).collect();
    }
    let grad = wide(grad)?;
    let (n, inverse) = normalised(&wide(xs)?, kind)?;
    let of_rows = |summed: &Tensor, arg: &Tensor| {
        summed.reshape(((), xs.dim(D::Minus1)?))?.sum(0)?.to_dtype(arg.dtype())?.reshape(arg.dims())
    };
    let mut grads = Vec::with_capacity(args.len());
    for (i, arg) in args.iter().enumerate() {
        if !arg.track_op() {
            grads.push(None);
            continue;
        }
        grads.push(Some(match i {
            0 => {
                let h = match weight {
                    Some(weight) => grad.broadcast_mul(&weight.to_dtype(grad.dtype())?)?,
                    None => grad.clone(),
                };
                let along = n.broadcast_mul(&(&h * &n)?.mean_keepdim(D::Minus1)?)?;
                let h = if kind.centred { h.broadcast_sub(&h.mean_keepdim(D::Minus1)?)? } else { h };
                (h - along)?.broadcast_mul(&inverse)?.to_dtype(xs.dtype())?
            }
            1 => of_rows(&(&grad * &n)?, arg)?,
            _ => of_rows(&grad, arg)?,
        }));
    }
    Ok(grads)
}

/// Returns the lengths of the first two axes.
pub(crate) fn batch_and_channels(xs: &Tensor) -> Result<(usize, usize)> {
    match xs.dims() {
        [batch, channels, ..] => Ok((*batch, *channels)),
        dims => Err(Error::shape(GROUP_NORM, "x", format!("shape {dims:?}"), "[batch, channels, ..]").into()),
    }
}
