//! Mean pooling over the tokens of a tensor.

#![forbid(unsafe_code)]

use crate::candle::composition;
use crate::candle::custom_op::{Custom, Op, apply_borrowing};
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::mask::{FullyMasked, Mask};
use crate::ops::mean_pool::MeanPool as Options;
use crate::rows::LanesMut;
use crate::simd::filled;
use candle_core::{CpuStorage, Error, Result, Shape, Tensor};
use std::borrow::Cow;

/// Options, borrowed from the caller or owned. Candle keeps owned options for the backward pass.
struct MeanPool<'a> {
    axis: usize,
    mask: Option<Cow<'a, Mask<'a>>>,
    fully_masked: FullyMasked,
}

/// Computes the mean along an axis of tokens, and removes that axis.
pub fn mean_pool(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    match place(xs, MeanPool::NAME)? {
        Place::Cpu => {
            let Options { mask, fully_masked, .. } = *options;
            let op = MeanPool { axis, mask: mask.map(Cow::Borrowed), fully_masked };
            apply_borrowing(&readable(xs, axis)?, op, MeanPool::into_owned)
        }
        Place::Device => composition::mean_pool(xs, axis, options),
    }
}

impl MeanPool<'_> {
    fn into_owned(self) -> MeanPool<'static> {
        MeanPool { mask: self.mask.map(|mask| Cow::Owned(mask.into_owned().into_owned())), ..self }
    }

    fn options(&self) -> Options<'_> {
        Options { mask: self.mask.as_deref(), fully_masked: self.fully_masked }
    }
}

impl Op for MeanPool<'_> {
    const NAME: &'static str = "mean_pool";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.options());
        let y = map_storage!(Self::NAME, x, data => crate::mean_pool(x.lanes(data, self.axis)?, &options)?);
        let mut dims = x.shape().dims().to_vec();
        dims.remove(self.axis);
        Ok((y, dims.into()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let gradient = Gradient { pool: self, shape: args[0].shape() };
        Ok(vec![Some(grad.contiguous()?.apply_op1_no_bwd(&Custom(gradient))?)])
    }
}

/// Gradient of the mean, for tokens of shape `shape`.
struct Gradient<'a, 'm> {
    pool: &'a MeanPool<'m>,
    shape: &'a Shape,
}

impl Op for Gradient<'_, '_> {
    const NAME: &'static str = "mean_pool_backward";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (dy, options) = (args[0], self.pool.options());
        let (dims, axis) = (self.shape.dims(), self.pool.axis as isize);
        let dx = map_storage!(Self::NAME, dy, data => {
            let dy = dy.contiguous(data).ok_or_else(|| Error::RequiresContiguous { op: Self::NAME }.bt())?;
            let mut dx = filled(Self::NAME, "the result", self.shape.elem_count(), Default::default())?;
            crate::mean_pool_backward_into(dy, LanesMut::shaped(&mut dx, dims, axis)?, &options)?;
            dx
        });
        Ok((dx, self.shape.clone()))
    }

    /// Returns no gradients; candle never requests them, because the op is applied without gradient tracking.
    fn backward(&self, _: &[&Tensor], _: &Tensor, _: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(Vec::new())
    }
}
