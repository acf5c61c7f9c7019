//! Layer normalisation of tensors.

#![forbid(unsafe_code)]

use super::norm::{self, NormOp};
use crate::candle::composition;
use crate::candle::custom_op::{InPlace, Memory, Op, apply, each_memory};
use crate::candle::support::check_dtype;
use crate::candle::view::{View, map_storage, readable};
use crate::floats::Floats;
use crate::ops::layer_norm::LayerNorm as Options;
use crate::rows::RowsMut;
use candle_core::{CpuStorage, D, DType, Result, Shape, Tensor};
#[cfg(feature = "candle-cuda")]
use {crate::candle::cuda::map_rows, crate::cuda::layer_norm_into, candle_core::CudaStorage};

pub const NAME: &str = "layer_norm";

/// Options without weight and bias, which are arguments of the op.
#[derive(Clone, Copy)]
pub struct LayerNorm {
    eps: f64,
}

/// Computes layer normalisation along the last axis.
pub fn layer_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &Options<'_>,
) -> Result<Tensor> {
    check_dtype(xs, NAME)?;
    let (op, axis) = (LayerNorm::new(options), norm::last_axis(NAME, xs)?);
    let operands = operands(xs, weight, bias, options)?;
    if !op.has_kernel(xs, &operands)? {
        return composition::layer_norm(xs, weight, bias, options);
    }
    apply(&readable(xs, axis)?, &operands, op)
}

/// Returns the operands of the op: none, the weight, or weight and bias. If there is a bias but no weight, the weight
/// is a tensor of ones, which changes no bit of the result.
pub fn operands(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &Options<'_>,
) -> Result<Vec<Tensor>> {
    let weight = norm::operand(NAME, "weight", weight, options.weight, xs.device())?;
    let bias = norm::operand(NAME, "bias", bias, options.bias, xs.device())?;
    let weight = match (&weight, &bias) {
        (None, Some(_)) => Some(Tensor::ones(xs.dim(D::Minus1)?, DType::F32, xs.device())?),
        _ => weight,
    };
    Ok(weight.into_iter().chain(bias).collect())
}

impl LayerNorm {
    pub fn new(options: &Options<'_>) -> Self {
        LayerNorm { eps: options.eps }
    }

    /// Returns the options with this weight and no bias.
    pub fn options<'a>(&self, weight: Option<Floats<'a>>) -> Options<'a> {
        Options { weight, bias: None, eps: self.eps }
    }

    /// Returns the options for kernels, with weight and bias from `operands`.
    fn with<'a>(&self, operands: &[View<'a>]) -> Result<Options<'a>> {
        let floats = |i: usize| operands.get(i).map(|operand| operand.floats(NAME)).transpose();
        Ok(Options { bias: floats(1)?, ..self.options(floats(0)?) })
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.with(&args[1..])?);
        let y = map_storage!(NAME, x, data => crate::layer_norm(x.rows(data)?, &options)?);
        Ok((y, x.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, xs: &Tensor, operands: &[Tensor]) -> bool {
        norm::has_cuda_kernel(xs, operands)
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let (x, options) = (args[0], self.options(None));
        let operand = |i: usize| args.get(i).map(|operand| operand.operand(NAME)).transpose();
        let operands = [operand(1)?, operand(2)?];
        let y = map_rows!(NAME, x, |stream, rows, y| layer_norm_into(stream, rows, operands, y, &options));
        Ok((y, x.shape().clone()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        norm::gradients(NormOp::Layer(*self), args, grad)
    }
}

impl InPlace for LayerNorm {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], args: &[View<'_>]) -> Result<()> {
        let options = self.with(args)?;
        each_memory!(xs, data => crate::layer_norm_in_place(RowsMut::shaped(data, dims)?, &options)?);
        Ok(())
    }
}
