//! The softmax family of tensors: softmax, log_softmax and logsumexp along an axis.

#![forbid(unsafe_code)]

use crate::candle::composition;
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, apply_borrowing, each_memory};
use crate::candle::view::{View, map_storage, readable};
use crate::mask::{FullyMasked, Mask};
use crate::ops::softmax::Softmax as Options;
use crate::rows::LanesMut;
use candle_core::{CpuStorage, Error, Result, Shape, Tensor};
use std::borrow::Cow;
#[cfg(feature = "candle-cuda")]
use {
    crate::candle::cuda::{OnDevice, copied, each_type, map_rows, rows_and_cols, supports, written},
    crate::cuda,
    candle_core::CudaStorage,
};

/// Function of the softmax family.
#[derive(Clone, Copy)]
pub enum Function {
    Softmax,
    LogSoftmax,
    LogSumExp,
}

/// A function of the softmax family along an axis. Its options are borrowed from the caller or owned. Candle keeps
/// owned options for the backward pass.
pub struct SoftmaxOp<'a> {
    function: Function,
    axis: usize,
    mask: Option<Cow<'a, Mask<'a>>>,
    scale: f64,
    softcap: Option<f64>,
    fully_masked: FullyMasked,
}

/// Computes softmax along an axis.
pub fn softmax(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    let op = SoftmaxOp::new(Function::Softmax, axis, options);
    Mask::check_rank(options.mask, op.name(), xs.rank())?;
    if op.has_kernel(xs, &[])? { op.apply(xs) } else { composition::softmax(xs, axis, options) }
}

/// Computes the logarithm of softmax along an axis.
pub fn log_softmax(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    let op = SoftmaxOp::new(Function::LogSoftmax, axis, options);
    Mask::check_rank(options.mask, op.name(), xs.rank())?;
    if op.has_kernel(xs, &[])? { op.apply(xs) } else { composition::log_softmax(xs, axis, options) }
}

/// Computes the log-sum-exp along an axis. The axis is kept with length 1 if `keepdim` is set, and removed otherwise.
pub fn logsumexp(xs: &Tensor, axis: usize, keepdim: bool, options: &Options<'_>) -> Result<Tensor> {
    let op = SoftmaxOp::new(Function::LogSumExp, axis, options);
    Mask::check_rank(options.mask, op.name(), xs.rank())?;
    let kept = if op.has_kernel(xs, &[])? { op.apply(xs)? } else { composition::logsumexp(xs, axis, options)? };
    if keepdim { Ok(kept) } else { kept.squeeze(axis) }
}

impl<'a> SoftmaxOp<'a> {
    pub fn new(function: Function, axis: usize, options: &Options<'a>) -> Self {
        let Options { mask, scale, softcap, fully_masked } = *options;
        SoftmaxOp { function, axis, mask: mask.map(Cow::Borrowed), scale, softcap, fully_masked }
    }

    fn into_owned(self) -> SoftmaxOp<'static> {
        SoftmaxOp { mask: self.mask.map(|mask| Cow::Owned(mask.into_owned().into_owned())), ..self }
    }

    fn options(&self) -> Options<'_> {
        Options {
            mask: self.mask.as_deref(),
            scale: self.scale,
            softcap: self.softcap,
            fully_masked: self.fully_masked,
        }
    }

    fn apply(self, xs: &Tensor) -> Result<Tensor> {
        apply_borrowing(&readable(xs, self.axis)?, self, SoftmaxOp::into_owned)
    }

    /// Returns the options for the CUDA kernels in two parts: the copy of the mask on the device of `x`, and all other
    /// options.
    #[cfg(feature = "candle-cuda")]
    fn on_device(&self, x: &View<'_, CudaStorage>) -> Result<(OnDevice<cuda::Mask<'static>>, Options<'_>)> {
        let options = self.options();
        let mask = match options.mask {
            None => OnDevice::Own(cuda::Mask::none()),
            Some(mask) if !mask.has_data() => OnDevice::Own(cuda::Mask::copy(&x.stream(), mask)?),
            Some(mask) => copied((self.name(), "mask"), x, &mask.copies, |stream| cuda::Mask::copy(stream, mask))?,
        };
        Ok((mask, Options { mask: None, ..options }))
    }
}

impl Op for SoftmaxOp<'_> {
    fn name(&self) -> &'static str {
        match self.function {
            Function::Softmax => "softmax",
            Function::LogSoftmax => "log_softmax",
            Function::LogSumExp => "logsumexp",
        }
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.options());
        let mut dims = x.shape().dims().to_vec();
        let y = map_storage!(self.name(), x, data => {
            let x = x.lanes(data, self.axis)?;
            match self.function {
                Function::Softmax => crate::softmax(x, &options)?,
                Function::LogSoftmax => crate::log_softmax(x, &options)?,
                Function::LogSumExp => {
                    dims[self.axis] = 1;
                    crate::logsumexp(x, &options)?
                }
            }
        });
        Ok((y, dims.into()))
    }

    /// Returns whether the CUDA kernels support the tensor and the axis, which must be the last.
    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, xs: &Tensor, _: &[Tensor]) -> bool {
        supports(xs) && self.axis + 1 == xs.rank()
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let (name, x) = (self.name(), args[0]);
        let (mask, options) = self.on_device(&x)?;
        let mask = mask.get()?;
        let mut dims = x.shape().dims().to_vec();
        let y = match self.function {
            Function::Softmax => {
                map_rows!(name, x, |stream, rows, y| cuda::softmax_masked_into(stream, rows, y, mask, &options, None))
            }
            Function::LogSoftmax => {
                map_rows!(name, x, |stream, rows, y| cuda::log_softmax_masked_into(
                    stream, rows, y, mask, &options, None
                ))
            }
            Function::LogSumExp => {
                let (count, _) = rows_and_cols(&dims);
                dims[self.axis] = 1;
                each_type!(name, x.dtype(), E => {
                    let rows = x.rows::<E>(name)?;
                    written(&x, count, |stream, y| cuda::logsumexp_masked_into(stream, rows, y, mask, &options, None))
                })?
            }
        };
        Ok((y, dims.into()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let grad = match self.function {
            Function::Softmax | Function::LogSoftmax => readable(grad, self.axis)?,
            Function::LogSumExp => grad.contiguous()?,
        };
        let xs = readable(args[0], self.axis)?;
        Ok(vec![Some(xs.apply_op2_no_bwd(&grad, &Custom(Backward(self)))?)])
    }
}

impl InPlace for SoftmaxOp<'_> {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], _: &[View<'_>]) -> Result<()> {
        let options = self.options();
        each_memory!(xs, data => {
            let lanes = LanesMut::shaped(data, dims, self.axis as isize)?;
            match self.function {
                Function::Softmax => crate::softmax_in_place(lanes, &options)?,
                Function::LogSoftmax => crate::log_softmax_in_place(lanes, &options)?,
                Function::LogSumExp => return Err(Error::Msg("logsumexp has no in-place form".into()).bt()),
            }
        });
        Ok(())
    }
}

/// Op that computes the gradient of the scores from the scores and the gradient of the result.
struct Backward<'o, 'a>(&'o SoftmaxOp<'a>);

impl Op for Backward<'_, '_> {
    fn name(&self) -> &'static str {
        match self.0.function {
            Function::Softmax => "softmax_backward",
            Function::LogSoftmax => "log_softmax_backward",
            Function::LogSumExp => "logsumexp_backward",
        }
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (name, axis, options) = (self.name(), self.0.axis, self.0.options());
        let (x, dy) = (args[0], args[1]);
        let dx = map_storage!(name, x, data => {
            let (x, grads) = (x.lanes(data, axis)?, dy.like(name, data)?);
            match self.0.function {
                Function::Softmax => crate::softmax_backward(x, dy.lanes(grads, axis)?, &options)?,
                Function::LogSoftmax => crate::log_softmax_backward(x, dy.lanes(grads, axis)?, &options)?,
                Function::LogSumExp => crate::logsumexp_backward(x, dy.elements(name, grads)?, &options)?,
            }
        });
        Ok((dx, x.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let (name, x, dy) = (self.name(), args[0], args[1]);
        let (mask, options) = self.0.on_device(&x)?;
        let mask = mask.get()?;
        let dx = map_rows!(name, x, |stream, rows, dx| match self.0.function {
            Function::Softmax => {
                cuda::softmax_backward_masked_into(stream, rows, dy.rows(name)?, dx, mask, &options, None)
            }
            Function::LogSoftmax => {
                cuda::log_softmax_backward_masked_into(stream, rows, dy.rows(name)?, dx, mask, &options, None)
            }
            Function::LogSumExp => {
                cuda::logsumexp_backward_masked_into(stream, rows, dy.values(name)?, dx, mask, &options, None)
            }
        });
        Ok((dx, x.shape().clone()))
    }
}
