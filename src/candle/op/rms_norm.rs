//! Root-mean-square normalisation of tensors.

#![forbid(unsafe_code)]

use super::norm::{self, NormOp};
use crate::candle::composition;
use crate::candle::custom_op::{InPlace, Memory, Op, apply, each_memory};
use crate::candle::support::check_dtype;
use crate::candle::view::{View, map_storage, readable};
use crate::floats::Floats;
use crate::ops::rms_norm::{RmsNorm as Options, Rounding};
use crate::rows::RowsMut;
use candle_core::{CpuStorage, Result, Shape, Tensor};
#[cfg(feature = "candle-cuda")]
use {crate::candle::cuda::map_rows, crate::cuda::rms_norm_into, candle_core::CudaStorage};

pub const NAME: &str = "rms_norm";

/// Options without the weight, which is an argument of the op.
#[derive(Clone, Copy)]
pub struct RmsNorm {
    weight_offset: f64,
    eps: f64,
    rounding: Rounding,
}

/// Computes root-mean-square normalisation along the last axis.
pub fn rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &Options<'_>) -> Result<Tensor> {
    check_dtype(xs, NAME)?;
    let (op, axis) = (RmsNorm::new(options), norm::last_axis(NAME, xs)?);
    let operand = norm::operand(NAME, "weight", weight, options.weight, xs.device())?;
    if !op.has_kernel(xs, operand.as_slice())? {
        return composition::rms_norm(xs, weight, options);
    }
    apply(&readable(xs, axis)?, operand.as_slice(), op)
}

impl RmsNorm {
    pub fn new(options: &Options<'_>) -> Self {
        let Options { weight_offset, eps, rounding, .. } = *options;
        RmsNorm { weight_offset, eps, rounding }
    }

    pub fn options<'a>(&self, weight: Option<Floats<'a>>) -> Options<'a> {
        let RmsNorm { weight_offset, eps, rounding } = *self;
        Options { weight, weight_offset, eps, rounding }
    }

    /// Returns the options for kernels, with this weight.
    fn with<'a>(&self, weight: Option<&View<'a>>) -> Result<Options<'a>> {
        Ok(self.options(weight.map(|weight| weight.floats(NAME)).transpose()?))
    }
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.with(args.get(1))?);
        let y = map_storage!(NAME, x, data => crate::rms_norm(x.rows(data)?, &options)?);
        Ok((y, x.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, xs: &Tensor, operands: &[Tensor]) -> bool {
        norm::has_cuda_kernel(xs, operands)
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let (x, options) = (args[0], self.options(None));
        let weight = args.get(1).map(|weight| weight.operand(NAME)).transpose()?;
        let y = map_rows!(NAME, x, |stream, rows, y| rms_norm_into(stream, rows, weight, y, &options));
        Ok((y, x.shape().clone()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        norm::gradients(NormOp::Rms(*self), args, grad)
    }
}

impl InPlace for RmsNorm {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], args: &[View<'_>]) -> Result<()> {
        let options = self.with(args.first())?;
        each_memory!(xs, data => crate::rms_norm_in_place(RowsMut::shaped(data, dims)?, &options)?);
        Ok(())
    }
}
