//! Mean pooling over the tokens of a tensor.

#![forbid(unsafe_code)]

use crate::candle::composition;
use crate::candle::custom_op::{Custom, Op, apply_borrowing};
use crate::candle::view::{View, map_storage, readable};
use crate::mask::{FullyMasked, Mask};
use crate::ops::mean_pool::MeanPool as Options;
use crate::rows::LanesMut;
use crate::simd::filled;
use candle_core::{CpuStorage, Result, Shape, Tensor};
use std::borrow::Cow;

/// Options, borrowed from the caller or owned. Candle keeps owned options for the backward pass.
struct MeanPool<'a> {
    axis: usize,
    mask: Option<Cow<'a, Mask<'a>>>,
    fully_masked: FullyMasked,
}

/// Computes the mean along an axis of tokens, and removes that axis.
pub fn mean_pool(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    let Options { mask, fully_masked, .. } = *options;
    let op = MeanPool { axis, mask: mask.map(Cow::Borrowed), fully_masked };
    Mask::check_rank(mask, op.name(), xs.rank())?;
    if !op.has_kernel(xs, &[])? {
        return composition::mean_pool(xs, axis, options);
    }
    apply_borrowing(&readable(xs, axis)?, op, MeanPool::into_owned)
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
    fn name(&self) -> &'static str {
        "mean_pool"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.options());
        let y = map_storage!(self.name(), x, data => crate::mean_pool(x.lanes(data, self.axis)?, &options)?);
        let mut dims = x.shape().dims().to_vec();
        dims.remove(self.axis);
        Ok((y, dims.into()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let gradient = Gradient { pool: self, shape: args[0].shape() };
        Ok(vec![Some(grad.contiguous()?.apply_op1_no_bwd(&Custom(gradient))?)])
    }
}

/// Op that computes the gradient of the tokens from the gradient of the mean. The tokens have the shape `shape`.
struct Gradient<'a, 'm> {
    pool: &'a MeanPool<'m>,
    shape: &'a Shape,
}

impl Op for Gradient<'_, '_> {
    fn name(&self) -> &'static str {
        "mean_pool_backward"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (dy, options) = (args[0], self.pool.options());
        let (dims, axis) = (self.shape.dims(), self.pool.axis as isize);
        let dx = map_storage!(self.name(), dy, data => {
            let dy = dy.elements(self.name(), data)?;
            let mut dx = filled(self.name(), "the result", self.shape.elem_count(), Default::default())?;
            crate::mean_pool_backward_into(dy, LanesMut::shaped(&mut dx, dims, axis)?, &options)?;
            dx
        });
        Ok((dx, self.shape.clone()))
    }
}
