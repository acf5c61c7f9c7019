//! Log-sum-exp of tensors.

#![forbid(unsafe_code)]

use super::scores::Scores;
use super::scores_backward::{Of, gradient};
use crate::candle::custom_op::{Op, apply_borrowing};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::ops::softmax::Softmax as Options;
use candle_core::{CpuStorage, Result, Shape, Tensor};

struct LogSumExp<'a>(Scores<'a>);

/// Computes the log-sum-exp along an axis, which is kept with length 1 or removed.
pub fn logsumexp(xs: &Tensor, axis: usize, keepdim: bool, options: &Options<'_>) -> Result<Tensor> {
    let kept = match place(xs, LogSumExp::NAME)? {
        Place::Cpu => {
            let op = LogSumExp(Scores::new(axis, options));
            apply_borrowing(&readable(xs, axis)?, op, |op| LogSumExp(op.0.into_owned()))?
        }
        Place::Device => device::logsumexp(xs, axis, options)?,
    };
    if keepdim { Ok(kept) } else { kept.squeeze(axis) }
}

impl Op for LogSumExp<'_> {
    const NAME: &'static str = "logsumexp";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.0.options());
        let y = map_storage!(Self::NAME, x, data => crate::logsumexp(x.lanes(data, self.0.axis)?, &options)?);
        let mut dims = x.shape().dims().to_vec();
        dims[self.0.axis] = 1;
        Ok((y, dims.into()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gradient(Of::LogSumExp, &self.0, args[0], grad)?)])
    }
}
