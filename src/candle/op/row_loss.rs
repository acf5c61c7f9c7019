//! Losses of logits against targets of the same shape. Targets are constants and have no gradient.

#![forbid(unsafe_code)]

use crate::candle::custom_op::{Custom, Op};
use crate::candle::view::{View, map_storage, readable};
use crate::element::Element;
use crate::error::Error;
use crate::floats::Floats;
use crate::ops::loss::{Loss, Reduction};
use crate::rows::Rows;
use candle_core::{CpuStorage, DType, Result, Shape, Tensor};
use std::sync::Arc;

/// A loss with its options.
pub trait RowLoss: Send + Sync + 'static {
    const NAME: &'static str;
    const BACKWARD: &'static str;
    /// Returns whether the unreduced loss has one number for each element, instead of one for each row.
    fn is_of_elements(&self) -> bool;
    fn reduction(&self) -> Reduction;
    fn loss<E: Element>(&self, x: Rows<'_, E>, targets: Floats<'_>) -> crate::Result<Loss>;
    fn gradient<E: Element>(&self, x: Rows<'_, E>, targets: Floats<'_>, dloss: &[f64]) -> crate::Result<Vec<E>>;
}

/// Computes the loss on the CPU. It is f64 for f64 logits and f32 otherwise.
pub fn apply<L: RowLoss>(logits: &Tensor, targets: &Tensor, loss: L) -> Result<Tensor> {
    same_shape(L::NAME, logits, targets)?;
    let axis = logits.rank() - 1;
    let targets = targets.detach().contiguous()?;
    readable(logits, axis)?.apply_op2(&targets, Custom(Forward(Arc::new(loss))))
}

/// Checks that logits have at least one axis, and that targets have the shape of the logits.
pub fn same_shape(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<()> {
    if logits.rank() == 0 {
        return Err(Error::shape(op, "logits", "no axes", "at least one").into());
    }
    if targets.dims() != logits.dims() {
        let got = format!("shape {:?}", targets.dims());
        return Err(Error::shape(op, "target", got, format!("{:?}, the shape of the logits", logits.dims())).into());
    }
    Ok(())
}

struct Forward<L>(Arc<L>);

impl<L: RowLoss> Op for Forward<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, targets) = (args[0], args[1].floats(L::NAME)?);
        let numbers = |loss: Loss| match loss {
            Loss::Value(value) => vec![value],
            Loss::Rows(rows) => rows,
        };
        let narrow = |loss: Loss| CpuStorage::F32(numbers(loss).into_iter().map(|v| v as f32).collect());
        let y = match x.storage {
            CpuStorage::F64(data) => CpuStorage::F64(numbers(self.0.loss(x.rows(data)?, targets)?)),
            CpuStorage::F32(data) => narrow(self.0.loss(x.rows(data)?, targets)?),
            CpuStorage::F16(data) => narrow(self.0.loss(x.rows(data)?, targets)?),
            CpuStorage::BF16(data) => narrow(self.0.loss(x.rows(data)?, targets)?),
            _ => return Err(x.unsupported(L::NAME)),
        };
        let dims = x.shape().dims();
        let kept = match self.0.reduction() {
            Reduction::None if self.0.is_of_elements() => dims,
            Reduction::None => &dims[..dims.len() - 1],
            _ => &[],
        };
        Ok((y, kept.into()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let dloss = grad.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let gradient = Gradient { loss: self.0.clone(), dloss };
        Ok(vec![Some(args[0].apply_op2_no_bwd(args[1], &Custom(gradient))?)])
    }
}

struct Gradient<L> {
    loss: Arc<L>,
    dloss: Vec<f64>,
}

impl<L: RowLoss> Op for Gradient<L> {
    fn name(&self) -> &'static str {
        L::BACKWARD
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, targets) = (args[0], args[1].floats(L::BACKWARD)?);
        let dx = map_storage!(L::BACKWARD, x, data => self.loss.gradient(x.rows(data)?, targets, &self.dloss)?);
        Ok((dx, x.shape().clone()))
    }
}
