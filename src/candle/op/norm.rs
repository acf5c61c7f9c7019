//! Code shared by the norms along the last axis: their operands and gradients.

#![forbid(unsafe_code)]

use super::layer_norm::LayerNorm;
use super::rms_norm::RmsNorm;
use crate::candle::view::{map_storage, readable, tensor, with_views};
use crate::error::Error;
use crate::floats::{Floats, FloatsMut};
use crate::rows::RowsMut;
use candle_core::shape::Dim;
use candle_core::{CpuStorage, D, DType, Device, Error as CandleError, Result, Storage, Tensor};

/// Returns an optional operand of a norm as a tensor. The caller may give the operand as a tensor, or as a slice in the
/// options. Giving both is an error.
pub fn operand(
    op: &'static str,
    argument: &'static str,
    tensor: Option<&Tensor>,
    slice: Option<Floats<'_>>,
    device: &Device,
) -> Result<Option<Tensor>> {
    match (tensor, slice) {
        (Some(_), Some(_)) => {
            Err(Error::invalid(op, argument, "given as a tensor and as an option", "given only once"))?
        }
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

pub fn last_axis(op: &'static str, xs: &Tensor) -> Result<usize> {
    D::Minus1.to_index(xs.shape(), op)
}

/// Returns whether the CUDA kernels support the tensor and its operands.
#[cfg(feature = "candle-cuda")]
pub fn has_cuda_kernel(xs: &Tensor, operands: &[Tensor]) -> bool {
    crate::candle::cuda::supports(xs) && operands.iter().all(|operand| operand.dtype() != DType::F64)
}

/// A norm and its settings, without the weight and the bias, which are arguments of the op.
#[derive(Clone, Copy)]
pub enum NormOp {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl NormOp {
    fn name(&self) -> &'static str {
        match self {
            NormOp::Rms(_) => "rms_norm_backward",
            NormOp::Layer(_) => "layer_norm_backward",
        }
    }
}

/// Computes the gradient of x, and the gradients of weight and bias if candle tracks them.
pub fn gradients(norm: NormOp, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let axis = last_axis(norm.name(), args[0])?;
    let (xs, grad) = (readable(args[0], axis)?, readable(&grad.to_dtype(args[0].dtype())?, axis)?);
    #[cfg(feature = "candle-cuda")]
    if xs.device().is_cuda() {
        return on_cuda(norm, &xs, &args[1..], &grad);
    }
    on_cpu(norm, &xs, &args[1..], &grad)
}

fn on_cpu(norm: NormOp, xs: &Tensor, operands: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let name = norm.name();
    let [mut dweight, mut dbias] = [None, None];
    for (operand, made) in operands.iter().zip([&mut dweight, &mut dbias]) {
        *made = if operand.track_op() { Some(zeros(name, operand)?) } else { None };
    }
    let all: Vec<&Tensor> = [xs, grad].into_iter().chain(operands.first().copied()).collect();
    let dx = with_views(name, &all, |views| {
        let (x, dy) = (views[0], views[1]);
        let weight = views.get(2).map(|weight| weight.floats(name)).transpose()?;
        Ok(map_storage!(name, x, data => {
            let (x, dy) = (x.rows(data)?, dy.rows(dy.like(name, data)?)?);
            let mut dx = vec![Default::default(); x.rows() * x.cols()];
            let to = RowsMut::new(&mut dx, x.rows(), x.cols())?;
            let (dweight, dbias) = (dweight.as_mut().and_then(floats_mut), dbias.as_mut().and_then(floats_mut));
            match norm {
                NormOp::Rms(norm) => {
                    crate::rms_norm_backward_into(x, dy, to, dweight, &norm.options(weight))?;
                }
                NormOp::Layer(norm) => {
                    crate::layer_norm_backward_into(x, dy, to, dweight, dbias, &norm.options(weight))?;
                }
            }
            dx
        }))
    })?;
    let mut grads = vec![Some(tensor(Storage::Cpu(dx), xs.shape()))];
    for (operand, made) in operands.iter().zip([dweight, dbias]) {
        grads.push(made.map(|made| tensor(Storage::Cpu(made), operand.shape())));
    }
    Ok(grads)
}

/// Allocates zeroed storage for an operand's gradient.
fn zeros(name: &'static str, like: &Tensor) -> Result<CpuStorage> {
    let count = like.elem_count();
    Ok(match like.dtype() {
        DType::F64 => CpuStorage::F64(vec![0.0; count]),
        DType::F32 => CpuStorage::F32(vec![0.0; count]),
        DType::F16 => CpuStorage::F16(vec![half::f16::ZERO; count]),
        DType::BF16 => CpuStorage::BF16(vec![half::bf16::ZERO; count]),
        other => return Err(CandleError::UnsupportedDTypeForOp(other, name).bt()),
    })
}

fn floats_mut(storage: &mut CpuStorage) -> Option<FloatsMut<'_>> {
    match storage {
        CpuStorage::F64(data) => Some(data.into()),
        CpuStorage::F32(data) => Some(data.into()),
        CpuStorage::F16(data) => Some(data.into()),
        CpuStorage::BF16(data) => Some(data.into()),
        _ => None,
    }
}

#[cfg(feature = "candle-cuda")]
fn on_cuda(norm: NormOp, xs: &Tensor, operands: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    use crate::candle::cuda::{map_rows, operand_mut, with_views, zeros};
    use crate::cuda::{layer_norm_backward_into, rms_norm_backward_into};

    let name = norm.name();
    let all: Vec<&Tensor> = [xs, grad].into_iter().chain(operands.iter().copied()).collect();
    with_views(name, &all, |views| {
        let (x, dy, views) = (views[0], views[1], &views[2..]);
        let [mut dweight, mut dbias] = [None, None];
        for ((operand, view), made) in operands.iter().zip(views).zip([&mut dweight, &mut dbias]) {
            *made = if operand.track_op() { Some(zeros(name, view)?) } else { None };
        }
        let weight = views.first().map(|weight| weight.operand(name)).transpose()?;
        let to_weight = dweight.as_mut().map(|made| operand_mut(name, made)).transpose()?;
        let to_bias = dbias.as_mut().map(|made| operand_mut(name, made)).transpose()?;
        let dx = map_rows!(name, x, |stream, rows, dx| {
            let rows = [rows, dy.rows(name)?];
            match norm {
                NormOp::Rms(norm) => rms_norm_backward_into(stream, rows, weight, dx, to_weight, &norm.options(None)),
                NormOp::Layer(norm) => {
                    layer_norm_backward_into(stream, rows, weight, dx, [to_weight, to_bias], &norm.options(None))
                }
            }
        });
        let mut grads = vec![Some(tensor(Storage::Cuda(dx), xs.shape()))];
        for (operand, made) in operands.iter().zip([dweight, dbias]) {
            grads.push(made.map(|made| tensor(Storage::Cuda(made), operand.shape())));
        }
        Ok(grads)
    })
}
