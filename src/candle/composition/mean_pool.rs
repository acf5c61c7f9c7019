//! Mean pooling over tokens, composed of candle's own ops.

#![forbid(unsafe_code)]

use super::wide;
use crate::error::Error;
use crate::ops::mean_pool::MeanPool;
use crate::rows::Geometry;
use crate::simd::reserve;
use candle_core::shape::Dim;
use candle_core::{Device, Result, Tensor};

/// Computes the mean over the unmasked tokens along an axis, and removes that axis, as [`crate::mean_pool`] does. The
/// mask is expanded on the host.
///
/// # Errors
/// The errors of [`crate::mean_pool`], wrapped in candle's error.
pub fn mean_pool<D: Dim>(xs: &Tensor, dim: D, options: &MeanPool<'_>) -> Result<Tensor> {
    const NAME: &str = "mean_pool";
    let axis = dim.to_index(xs.shape(), NAME)?;
    let geometry = Geometry::shaped(xs.dims(), axis as isize)?;
    let pool = options.resolve(NAME, &geometry)?;
    if xs.elem_count() == 0 {
        let mut dims = xs.dims().to_vec();
        dims.remove(axis);
        return Tensor::zeros(dims, xs.dtype(), xs.device());
    }
    let (sequences, len, mut buffer) = (geometry.outer(), geometry.len(), Vec::new());
    let mut counts = reserve(NAME, "the token flags", sequences * len)?;
    let mut shares = reserve(NAME, "the token shares", sequences)?;
    for sequence in 0..sequences {
        let tokens = pool.tokens(sequence, len, &mut buffer);
        if tokens.count == 0 && len > 0 && pool.refuses {
            return Err(Error::FullyMasked { op: NAME, row: sequence }.into());
        }
        counts.extend((0..len).map(|token| u8::from(tokens.counts(token))));
        shares.push(1.0 / tokens.count.max(1) as f64);
    }
    let x = wide(xs)?;
    let mut dims = xs.dims().to_vec();
    dims[axis + 1..].fill(1);
    let counts = Tensor::from_vec(counts, dims.as_slice(), xs.device())?.broadcast_as(xs.shape())?;
    dims[axis] = 1;
    let shares = Tensor::from_vec(shares, dims, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(xs.device())?;
    // Masked tokens are set to zero, so a NaN in them does not reach the mean. The tokens are divided by their number
    // before they are added, so that the sum does not overflow.
    let x = counts.where_cond(&x, &x.zeros_like()?)?;
    x.broadcast_mul(&shares)?.sum(axis)?.to_dtype(xs.dtype())
}
