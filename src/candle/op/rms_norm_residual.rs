//! Root-mean-square normalisation of the sum of two tensors. One pass computes the sum and the normalised sum.

#![forbid(unsafe_code)]

use super::norm::{self, NormOp};
use super::rms_norm::{NAME, RmsNorm};
use crate::candle::composition;
use crate::candle::custom_op::{Op, apply};
use crate::candle::support::check_dtype;
use crate::candle::view::{View, map_storage, readable};
use crate::ops::rms_norm::RmsNorm as Options;
use candle_core::{CpuStorage, Error, Result, Shape, Storage, Tensor, WithDType};
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "candle-cuda")]
use {
    crate::candle::cuda::{each_type, written_rows},
    crate::cuda::{RowsMut, memory, rms_norm_residual_into},
    candle_core::CudaStorage,
    candle_core::backend::BackendStorage,
};

/// Returns the normalised sum `xs + residual`, and the sum itself.
pub fn rms_norm_residual(
    xs: &Tensor,
    residual: &Tensor,
    weight: Option<&Tensor>,
    options: &Options<'_>,
) -> Result<(Tensor, Tensor)> {
    if xs.shape() != residual.shape() {
        let (lhs, rhs) = (xs.shape().clone(), residual.shape().clone());
        return Err(Error::ShapeMismatchBinaryOp { lhs, rhs, op: NAME }.bt());
    }
    check_dtype(xs, NAME)?;
    let (op, axis) = (RmsNorm::new(options), norm::last_axis(NAME, xs)?);
    let operand = norm::operand(NAME, "weight", weight, options.weight, xs.device())?;
    let norm = Arc::new(Mutex::new(None));
    let sum = Sum { op, norm: norm.clone() };
    let operands: Vec<Tensor> = [residual.clone()].into_iter().chain(operand.clone()).collect();
    if !sum.has_kernel(xs, &operands)? {
        return composition::rms_norm_residual(xs, residual, weight, options);
    }
    let (xs, residual) = (readable(xs, axis)?, readable(residual, axis)?);
    // The sum does not depend on the weight, so the weight is detached. The op `Norm` computes the weight's gradient.
    let operands: Vec<Tensor> = [residual].into_iter().chain(operand.as_ref().map(Tensor::detach)).collect();
    let sum = apply(&xs, &operands, sum)?;
    Ok((apply(&sum, operand.as_slice(), Norm { op, norm })?, sum))
}

/// Slot for the normalised sum. The op [`Sum`] computes it together with the sum, and stores it here. The op [`Norm`]
/// takes it from here.
type Slot = Arc<Mutex<Option<Storage>>>;

/// Op that returns x + residual, and stores the normalised sum for [`Norm`].
struct Sum {
    op: RmsNorm,
    norm: Slot,
}

impl Sum {
    fn leave(&self, norm: Storage) {
        *self.norm.lock().unwrap_or_else(PoisonError::into_inner) = Some(norm);
    }
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, residual) = (args[0], args[1]);
        let options = self.op.options(args.get(2).map(|weight| weight.floats(NAME)).transpose()?);
        if x.dtype() != residual.dtype() {
            return Err(Error::DTypeMismatchBinaryOp { lhs: x.dtype(), rhs: residual.dtype(), op: NAME }.bt());
        }
        let sum = map_storage!(NAME, x, data => {
            let residual = residual.rows(residual.like(NAME, data)?)?;
            let (norm, sum) = crate::rms_norm_residual(x.rows(data)?, residual, &options)?;
            self.leave(Storage::Cpu(WithDType::to_cpu_storage_owned(norm)));
            sum
        });
        Ok((sum, x.shape().clone()))
    }

    /// Returns false if candle tracks gradients, so that the composition is used.
    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, xs: &Tensor, operands: &[Tensor]) -> bool {
        let is_tracked = xs.track_op() || operands.iter().any(Tensor::track_op);
        !is_tracked && norm::has_cuda_kernel(xs, operands) && operands[0].dtype() == xs.dtype()
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let (x, residual) = (args[0], args[1]);
        let weight = args.get(2).map(|weight| weight.operand(NAME)).transpose()?;
        let sum = each_type!(NAME, x.dtype(), E => {
            let rows = [x.rows::<E>(NAME)?, residual.rows::<E>(NAME)?];
            let mut norm = memory::<E>(&x.stream(), x.shape().elem_count())?;
            let sum = written_rows(&x, |stream, sum| {
                let norm = RowsMut::new(norm.as_view_mut(), sum.rows(), sum.cols())?;
                rms_norm_residual_into(stream, rows, weight, [norm, sum], &self.op.options(None))
            })?;
            self.leave(Storage::Cuda(CudaStorage::wrap_cuda_slice(norm, sum.device().clone())));
            Ok(sum)
        })?;
        Ok((sum, x.shape().clone()))
    }

    fn bwd(&self, _: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(grad.force_contiguous()?), Some(grad.force_contiguous()?)])
    }
}

/// Op that returns the normalised sum, which [`Sum`] has already computed.
struct Norm {
    op: RmsNorm,
    norm: Slot,
}

impl Norm {
    fn take(&self) -> Result<Storage> {
        let norm = self.norm.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The slot is full here: candle runs this op once, right after the sum.
        norm.ok_or_else(|| {
            Error::Msg(format!("{NAME}: candle must request each normalised sum once, but requested it twice")).bt()
        })
    }
}

impl Op for Norm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            Storage::Cpu(norm) => Ok((norm, args[0].shape().clone())),
            _ => Err(Error::Msg(format!("{NAME}: the normalised sum is not on the CPU")).bt()),
        }
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            Storage::Cuda(norm) => Ok((norm, args[0].shape().clone())),
            _ => Err(Error::Msg(format!("{NAME}: the normalised sum is not on a CUDA device")).bt()),
        }
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        norm::gradients(NormOp::Rms(self.op), args, grad)
    }
}
