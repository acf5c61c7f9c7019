//! Root-mean-square normalisation of a sum. One pass computes the norm and the sum.

#![forbid(unsafe_code)]

use super::norm;
use super::rms_norm::{NAME, RmsNorm};
use crate::candle::custom_op::{Custom, Op};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, readable};
use crate::element::Element;
use crate::ops::rms_norm::RmsNorm as Options;
use candle_core::{CpuStorage, Error, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Returns the norm of `xs + residual`, and that sum.
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
    match place(xs, NAME)? {
        Place::Cpu => on_cpu(xs, residual, weight, options),
        Place::Device => device::rms_norm_residual(xs, residual, weight, options),
    }
}

fn on_cpu(xs: &Tensor, residual: &Tensor, weight: Option<&Tensor>, options: &Options<'_>) -> Result<(Tensor, Tensor)> {
    let axis = norm::last_axis(NAME, xs)?;
    let (xs, residual) = (readable(xs, axis)?, readable(residual, axis)?);
    let weight = norm::operand(NAME, "weight", weight, options.weight, xs.device())?;
    let op = RmsNorm::new(options);
    let norm = Arc::new(Mutex::new(None));
    let sum = Sum { op, norm: norm.clone() };
    match weight {
        Some(weight) => {
            // The sum does not depend on the weight. The weight's gradient comes from the norm op alone.
            let sum = xs.apply_op3(&residual, &weight.detach(), Custom(sum))?;
            Ok((sum.apply_op2(&weight, Custom(Norm { op, norm }))?, sum))
        }
        None => {
            let sum = xs.apply_op2(&residual, Custom(sum))?;
            Ok((sum.apply_op1(Custom(Norm { op, norm }))?, sum))
        }
    }
}

/// Slot in which [`Sum`], which computes both results, leaves the norm for [`Norm`].
type Handed = Arc<Mutex<Option<CpuStorage>>>;

/// Op that returns x + residual, and leaves the norm for [`Norm`].
struct Sum {
    op: RmsNorm,
    norm: Handed,
}

impl Op for Sum {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, residual) = (args[0], args[1]);
        let options = self.op.options(args.get(2).map(|weight| weight.floats(NAME)).transpose()?);
        let [norm, sum] = match (x.storage, residual.storage) {
            (CpuStorage::F64(a), CpuStorage::F64(b)) => both([(x, a), (residual, b)], &options)?.map(CpuStorage::F64),
            (CpuStorage::F32(a), CpuStorage::F32(b)) => both([(x, a), (residual, b)], &options)?.map(CpuStorage::F32),
            (CpuStorage::F16(a), CpuStorage::F16(b)) => both([(x, a), (residual, b)], &options)?.map(CpuStorage::F16),
            (CpuStorage::BF16(a), CpuStorage::BF16(b)) => {
                both([(x, a), (residual, b)], &options)?.map(CpuStorage::BF16)
            }
            _ => {
                let (lhs, rhs) = (x.dtype(), residual.dtype());
                return Err(Error::DTypeMismatchBinaryOp { lhs, rhs, op: NAME }.bt());
            }
        };
        *self.norm.lock().unwrap_or_else(PoisonError::into_inner) = Some(norm);
        Ok((sum, x.shape().clone()))
    }

    fn backward(&self, _: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(grad.clone()), Some(grad.clone())])
    }
}

/// Computes the norm and the sum.
fn both<E: Element>([(x, a), (residual, b)]: [(View<'_>, &Vec<E>); 2], options: &Options<'_>) -> Result<[Vec<E>; 2]> {
    let (norm, sum) = crate::rms_norm_residual(x.rows(a)?, residual.rows(b)?, options)?;
    Ok([norm, sum])
}

/// Op that returns the norm of the sum, which [`Sum`] has already computed.
struct Norm {
    op: RmsNorm,
    norm: Handed,
}

impl Op for Norm {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let norm = self.norm.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The slot is full here: candle runs this op once, right after the sum.
        let norm = norm.ok_or_else(|| Error::Msg(format!("{NAME}: the op ran twice for one sum")).bt())?;
        Ok((norm, args[0].shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        self.op.gradients(args, grad)
    }
}
