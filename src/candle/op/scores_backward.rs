//! Gradients of the softmax family, as untracked ops on the scores and the gradient of the result.

#![forbid(unsafe_code)]

use super::scores::Scores;
use crate::candle::view::{View, map_storage, readable};
use crate::element::Element;
use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor, WithDType};

/// Op whose gradient is computed.
#[derive(Clone, Copy)]
pub enum Of {
    Softmax,
    LogSoftmax,
    LogSumExp,
}

struct Backward<'a, 'm> {
    scores: &'a Scores<'m>,
    of: Of,
}

/// Computes the gradient of the scores from the gradient of the result.
pub fn gradient(of: Of, scores: &Scores<'_>, xs: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let grad = match of {
        Of::Softmax | Of::LogSoftmax => readable(grad, scores.axis)?,
        Of::LogSumExp => grad.contiguous()?,
    };
    readable(xs, scores.axis)?.apply_op2_no_bwd(&grad, &Backward { scores, of })
}

impl Backward<'_, '_> {
    fn of<E: Element + WithDType>(&self, x: View<'_>, data: &[E], dy: View<'_>) -> Result<Vec<E>> {
        let (axis, options) = (self.scores.axis, self.scores.options());
        let (x, grads) = (x.lanes(data, axis)?, dy.storage.as_slice::<E>()?);
        Ok(match self.of {
            Of::Softmax => crate::softmax_backward(x, dy.lanes(grads, axis)?, &options)?,
            Of::LogSoftmax => crate::log_softmax_backward(x, dy.lanes(grads, axis)?, &options)?,
            Of::LogSumExp => {
                let dy = dy.contiguous(grads).ok_or(Error::RequiresContiguous { op: self.name() })?;
                crate::logsumexp_backward(x, dy, &options)?
            }
        })
    }
}

impl CustomOp2 for Backward<'_, '_> {
    fn name(&self) -> &'static str {
        match self.of {
            Of::Softmax => "softmax_backward",
            Of::LogSoftmax => "log_softmax_backward",
            Of::LogSumExp => "logsumexp_backward",
        }
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, dy) = (View { storage: s1, layout: l1 }, View { storage: s2, layout: l2 });
        let dx = map_storage!(self.name(), x, data => self.of(x, data, dy)?);
        Ok((dx, l1.shape().clone()))
    }
}
