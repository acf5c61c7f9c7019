//! The softmax family along the last axis, with gradients.

#![forbid(unsafe_code)]

use super::is_taken;
use super::kernel::{Kernel, View, each_type, rows_and_cols, untracked, written, written_rows};
use crate::candle::composition;
use crate::candle::op::scores::Scores;
use crate::cuda::{self, CopiedMask};
use crate::ops::softmax::Softmax as Options;
use candle_core::{CudaStorage, Result, Shape, Tensor};
use std::sync::Arc;

#[derive(Clone, Copy)]
enum Of {
    Softmax,
    LogSoftmax,
    LogSumExp,
}

/// Computes softmax along an axis, as [`composition::softmax`] does. Masks and policies work along the last axis.
pub fn softmax(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    if is_along_rows(xs, axis) { apply(Of::Softmax, xs, options) } else { composition::softmax(xs, axis, options) }
}

/// Computes the logarithm of softmax along an axis. Masks and policies are as for [`softmax`].
pub fn log_softmax(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    if is_along_rows(xs, axis) {
        apply(Of::LogSoftmax, xs, options)
    } else {
        composition::log_softmax(xs, axis, options)
    }
}

/// Computes the log-sum-exp along an axis, which is kept with length 1. Masks and policies are as for [`softmax`].
pub fn logsumexp(xs: &Tensor, axis: usize, options: &Options<'_>) -> Result<Tensor> {
    if is_along_rows(xs, axis) { apply(Of::LogSumExp, xs, options) } else { composition::logsumexp(xs, axis, options) }
}

fn is_along_rows(xs: &Tensor, axis: usize) -> bool {
    is_taken(xs) && axis + 1 == xs.rank()
}

fn apply(of: Of, xs: &Tensor, options: &Options<'_>) -> Result<Tensor> {
    if !xs.track_op() {
        return untracked(of.name(), &[xs], |args| of.forward(args[0], options));
    }
    let scores = Arc::new(Scores::new(xs.rank() - 1, options).into_owned());
    let of_gradients = scores.clone();
    xs.contiguous()?.apply_op1(Kernel {
        name: of.name(),
        forward: move |args: &[View<'_>]| of.forward(args[0], &scores.options()),
        backward: move |args: &[&Tensor], grad: &Tensor| {
            let options = of_gradients.options();
            Ok(vec![Some(untracked(of.name(), &[args[0], grad], |args| of.backward(args[0], args[1], &options))?)])
        },
    })
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Of::Softmax => "softmax",
            Of::LogSoftmax => "log_softmax",
            Of::LogSumExp => "logsumexp",
        }
    }

    fn forward(self, x: View<'_>, options: &Options<'_>) -> Result<(CudaStorage, Shape)> {
        let name = self.name();
        let (mask, options) = taken_off(&x, options)?;
        let mask = mask.mask();
        let mut dims = x.shape().dims().to_vec();
        let y = each_type!(name, x.dtype(), E => {
            let rows = x.rows::<E>(name)?;
            match self {
                Of::Softmax => {
                    written_rows(&x, |stream, y| cuda::softmax_masked_into(stream, rows, y, &mask, &options))
                }
                Of::LogSoftmax => {
                    written_rows(&x, |stream, y| cuda::log_softmax_masked_into(stream, rows, y, &mask, &options))
                }
                Of::LogSumExp => {
                    let (count, _) = rows_and_cols(&dims);
                    dims[x.shape().rank() - 1] = 1;
                    written(&x, count, |stream, y| cuda::logsumexp_masked_into(stream, rows, y, &mask, &options))
                }
            }
        })?;
        Ok((y, dims.into()))
    }

    fn backward(self, x: View<'_>, dy: View<'_>, options: &Options<'_>) -> Result<(CudaStorage, Shape)> {
        let name = self.name();
        let (mask, options) = taken_off(&x, options)?;
        let mask = mask.mask();
        let dx = each_type!(name, x.dtype(), E => {
            let rows = x.rows::<E>(name)?;
            written_rows(&x, |stream, dx| match self {
                Of::Softmax => {
                    cuda::softmax_backward_masked_into(stream, rows, dy.rows(name)?, dx, &mask, &options)
                }
                Of::LogSoftmax => {
                    cuda::log_softmax_backward_masked_into(stream, rows, dy.rows(name)?, dx, &mask, &options)
                }
                Of::LogSumExp => {
                    cuda::logsumexp_backward_masked_into(stream, rows, dy.elements(name)?, dx, &mask, &options)
                }
            })
        })?;
        Ok((dx, x.shape().clone()))
    }
}

/// Returns a copy of the mask on the device, and the options without the mask.
fn taken_off<'a>(x: &View<'_>, options: &Options<'a>) -> Result<(CopiedMask, Options<'a>)> {
    let mask = match options.mask {
        Some(mask) => CopiedMask::new(&x.stream(), mask)?,
        None => CopiedMask::default(),
    };
    Ok((mask, Options { mask: None, ..*options }))
}
