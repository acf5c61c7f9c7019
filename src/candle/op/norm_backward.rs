//! Gradients of the norms on the CPU, computed by the kernels.

#![forbid(unsafe_code)]

use super::norm::last_axis;
use crate::candle::view::{View, map_storage, readable};
use crate::floats::{Floats, FloatsMut};
use crate::ops::layer_norm::LayerNorm;
use crate::rows::RowsMut;
use candle_core::{CpuStorage, DType, Device, Error, Result, Storage, Tensor};

/// A norm with its settings, without weight and bias, which are arguments of the op.
#[derive(Clone, Copy)]
pub enum Of {
    Rms(super::rms_norm::RmsNorm),
    Layer { eps: f64 },
}

impl Of {
    fn name(&self) -> &'static str {
        match self {
            Of::Rms(_) => "rms_norm_backward",
            Of::Layer { .. } => "layer_norm_backward",
        }
    }
}

/// Computes the gradients of x, and of weight and bias where candle tracks them.
pub fn gradients(of: Of, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let name = of.name();
    let axis = last_axis(name, args[0])?;
    let (xs, grad) = (readable(args[0], axis)?, readable(&grad.to_dtype(args[0].dtype())?, axis)?);
    let guards = (xs.storage_and_layout(), grad.storage_and_layout(), args.get(1).map(|w| w.storage_and_layout()));
    let ((x, x_layout), (dy, dy_layout), of_weight) = &guards;
    let x = View { storage: on_cpu(name, x)?, layout: x_layout };
    let dy = View { storage: on_cpu(name, dy)?, layout: dy_layout };
    let weight: Option<Floats<'_>> = match of_weight {
        Some((storage, layout)) => Some(View { storage: on_cpu(name, storage)?, layout }.floats(name)?),
        None => None,
    };
    let [mut dweight, mut dbias] = [None, None];
    for (operand, room) in args[1..].iter().zip([&mut dweight, &mut dbias]) {
        *room = if operand.track_op() { Some(zeros(name, operand)?) } else { None };
    }
    let dx = map_storage!(name, x, data => {
        let (x, dy) = (x.rows(data)?, dy.rows(elements(name, &dy, data)?)?);
        let mut dx = vec![Default::default(); x.rows() * x.cols()];
        let to = RowsMut::new(&mut dx, x.rows(), x.cols())?;
        let (dweight, dbias) = (dweight.as_mut().and_then(floats_mut), dbias.as_mut().and_then(floats_mut));
        match of {
            Of::Rms(norm) => {
                crate::rms_norm_backward_into(x, dy, to, dweight, &norm.options(weight))?;
            }
            Of::Layer { eps } => {
                let options = LayerNorm { weight, bias: None, eps };
                crate::layer_norm_backward_into(x, dy, to, dweight, dbias, &options)?;
            }
        }
        dx
    });
    let mut grads = vec![Some(tensor(name, dx, args[0])?)];
    for (operand, room) in args[1..].iter().zip([dweight, dbias]) {
        grads.push(room.map(|room| tensor(name, room, operand)).transpose()?);
    }
    Ok(grads)
}

pub(super) fn on_cpu<'a>(name: &'static str, storage: &'a Storage) -> Result<&'a CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => Err(Error::Msg(format!("{name}: an operand is not on the CPU")).bt()),
    }
}

/// Returns the elements of a view as type `E`, or an error if it has another type. The last argument only selects `E`.
pub(super) fn elements<'a, E: crate::Element + candle_core::WithDType>(
    name: &'static str,
    view: &View<'a>,
    _: &[E],
) -> Result<&'a [E]> {
    E::cpu_storage_as_slice(view.storage).map_err(|_| view.unsupported(name))
}

/// Allocates zeroed storage for an operand's gradient.
fn zeros(name: &'static str, like: &Tensor) -> Result<CpuStorage> {
    let count = like.elem_count();
    Ok(match like.dtype() {
        DType::F64 => CpuStorage::F64(vec![0.0; count]),
        DType::F32 => CpuStorage::F32(vec![0.0; count]),
        DType::F16 => CpuStorage::F16(vec![half::f16::ZERO; count]),
        DType::BF16 => CpuStorage::BF16(vec![half::bf16::ZERO; count]),
        other => return Err(Error::UnsupportedDTypeForOp(other, name).bt()),
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

/// Converts storage to a tensor with the shape of `like`.
pub(super) fn tensor(name: &'static str, storage: CpuStorage, like: &Tensor) -> Result<Tensor> {
    match storage {
        CpuStorage::F64(data) => Tensor::from_vec(data, like.shape(), &Device::Cpu),
        CpuStorage::F32(data) => Tensor::from_vec(data, like.shape(), &Device::Cpu),
        CpuStorage::F16(data) => Tensor::from_vec(data, like.shape(), &Device::Cpu),
        CpuStorage::BF16(data) => Tensor::from_vec(data, like.shape(), &Device::Cpu),
        _ => Err(Error::UnsupportedDTypeForOp(like.dtype(), name).bt()),
    }
}
