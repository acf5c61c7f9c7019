//! Code shared by the norms: their operands, and the gradients on devices without kernels.

#![forbid(unsafe_code)]

use crate::candle::composition::{normalised, wide};
use crate::error::Error;
use crate::floats::Floats;
use candle_core::shape::Dim;
use candle_core::{D, Device, Result, Tensor};

/// Returns the operand of a norm as a tensor. It may be given as a tensor or as a slice in the options, but not as
/// both.
pub fn operand(
    op: &'static str,
    argument: &'static str,
    tensor: Option<&Tensor>,
    slice: Option<Floats<'_>>,
    device: &Device,
) -> Result<Option<Tensor>> {
    match (tensor, slice) {
        (Some(_), Some(_)) => Err(Error::invalid(op, argument, "given twice", "passed as a tensor or an option"))?,
        (Some(tensor), None) if tensor.rank() == 1 => tensor.contiguous().map(Some),
        (Some(tensor), None) => Err(Error::shape(op, argument, format!("shape {:?}", tensor.dims()), "one axis"))?,
        (None, Some(values)) => match values {
            Floats::F64(v) => Tensor::from_slice(v, v.len(), device),
            Floats::F32(v) => Tensor::from_slice(v, v.len(), device),
            Floats::F16(v) => Tensor::from_slice(v, v.len(), device),
            Floats::BF16(v) => Tensor::from_slice(v, v.len(), device),
        }
        .map(Some),
        (None, None) => Ok(None),
    }
}

/// Returns the index of the last axis.
pub fn last_axis(op: &'static str, xs: &Tensor) -> Result<usize> {
    D::Minus1.to_index(xs.shape(), op)
}

/// Normalisation that a norm applies before its weight: x / rms, or (x - mean) / deviation.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Whether the mean is subtracted.
    pub centred: bool,
    /// Number added to the mean square or the variance.
    pub eps: f64,
}

/// Computes the gradients of x, weight and bias of `normalised(x) * weight + bias`, each where candle tracks it.
///
/// With n = normalised x, r = 1 / rms or 1 / deviation, and h = dy weight:
/// dx = r (h - mean(h) - n mean(h n)), where mean(h) is subtracted only if rows are centred;
/// dweight = sum over rows of dy n; dbias = sum over rows of dy.
///
/// # Errors
/// Candle's error for tensors that do not fit.
pub fn gradients(kind: Kind, args: &[&Tensor], weight: Option<&Tensor>, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
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
