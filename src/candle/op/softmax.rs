//! Softmax of tensors.

#![forbid(unsafe_code)]

use super::scores::Scores;
use super::scores_backward::{Of, gradient};
use crate::candle::custom_op::{InPlace, Memory, Op, apply_borrowing, each_memory};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::ops::softmax::Softmax as Options;
use crate::rows::LanesMut;
use candle_core::{CpuStorage, Result, Shape, Tensor};

pub struct Softmax<'a>(pub Scores<'a>);

/// Computes softmax along an axis.
pub fn softmax(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    match place(xs, Softmax::NAME)? {
        Place::Cpu => {
            let op = Softmax(Scores::new(axis, options));
            apply_borrowing(&readable(xs, axis)?, op, |op| Softmax(op.0.into_owned()))
        }
        Place::Device => device::softmax(xs, axis, options),
    }
}

impl Op for Softmax<'_> {
    const NAME: &'static str = "softmax";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.0.options());
        let y = map_storage!(Self::NAME, x, data => crate::softmax(x.lanes(data, self.0.axis)?, &options)?);
        Ok((y, x.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gradient(Of::Softmax, &self.0, args[0], grad)?)])
    }
}

impl InPlace for Softmax<'_> {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], _: &[View<'_>]) -> Result<()> {
        let (axis, options) = (self.0.axis as isize, self.0.options());
        each_memory!(xs, data => crate::softmax_in_place(LanesMut::shaped(data, dims, axis)?, &options)?);
        Ok(())
    }
}
