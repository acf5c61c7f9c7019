//! Rotary embedding, composed of candle's own ops.

#![forbid(unsafe_code)]

use super::{rms_norm, wide};
use crate::candle::op::norm::last_axis;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rope::RopeTable;
use candle_core::{D, Result, Tensor};

/// Computes rotary embedding with a table, as [`crate::rope`] does.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), wrapped in candle's error, for a table whose shape does not
/// match.
pub fn rope(xs: &Tensor, table: &RopeTable) -> Result<Tensor> {
    let (rows, cols) = (xs.dims()[..last_axis("rope", xs)?].iter().product(), xs.dim(D::Minus1)?);
    table.check("rope", rows, cols)?;
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    let dtype = wide(xs)?.dtype();
    let (positions, (cos, sin)) = (table.positions(), table.cos_sin());
    let tensor = |values| Tensor::from_slice(values, (positions, cols / 2), xs.device())?.to_dtype(dtype);
    let blocks = xs.reshape(((), positions, cols))?;
    rotated(&blocks, &tensor(cos)?, &tensor(sin)?, table.is_interleaved())?.reshape(xs.shape())
}

/// Computes root-mean-square normalisation of the rows, then rotary embedding, as [`crate::qk_norm_rope`] does.
///
/// # Errors
/// The errors of [`rms_norm`](super::rms_norm) and [`rope`].
pub fn qk_norm_rope(xs: &Tensor, weight: Option<&Tensor>, table: &RopeTable, options: &RmsNorm<'_>) -> Result<Tensor> {
    rope(&rms_norm(xs, weight, options)?, table)
}

/// Computes rotary embedding of `[.., cols]` with cosines and sines that broadcast to `[.., cols / 2]`.
///
/// Rotates the adjacent pairs (2i, 2i + 1) if `interleaved` is set, and the pairs (i, i + cols / 2) otherwise.
///
/// # Errors
/// Candle's error for tensors whose shapes do not match.
pub fn rotated(xs: &Tensor, cos: &Tensor, sin: &Tensor, interleaved: bool) -> Result<Tensor> {
    let x = wide(xs)?;
    let (cos, sin) = (cos.to_dtype(x.dtype())?, sin.to_dtype(x.dtype())?);
    let (a, b) = pairs(&x, interleaved)?;
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
    let y = if interleaved {
        Tensor::stack(&[first, second], D::Minus1)?.reshape(xs.shape())?
    } else {
        Tensor::cat(&[first, second], D::Minus1)?
    };
    y.to_dtype(xs.dtype())
}

/// Splits the last axis into the first and the second elements of all pairs.
pub(crate) fn pairs(xs: &Tensor, interleaved: bool) -> Result<(Tensor, Tensor)> {
    let half = xs.dim(D::Minus1)? / 2;
    if !interleaved {
        return Ok((xs.narrow(D::Minus1, 0, half)?, xs.narrow(D::Minus1, half, half)?));
    }
    let mut dims = xs.dims().to_vec();
    dims.pop();
    dims.extend([half, 2]);
    let xs = xs.reshape(dims)?;
    let of = |index| xs.narrow(D::Minus1, index, 1)?.squeeze(D::Minus1);
    Ok((of(0)?, of(1)?))
}
