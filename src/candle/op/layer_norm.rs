//! Layer normalisation of tensors.

#![forbid(unsafe_code)]

use super::norm::{self, Kind};
use super::norm_backward::{self, Of};
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, each_memory};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::ops::layer_norm::LayerNorm as Options;
use crate::rows::RowsMut;
use candle_core::{CpuStorage, D, DType, Result, Shape, Tensor};

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
    let op = LayerNorm::new(options);
    match place(xs, NAME)? {
        Place::Cpu => {
            let xs = readable(xs, norm::last_axis(NAME, xs)?)?;
            match operands(&xs, weight, bias, options)?.as_slice() {
                [] => xs.apply_op1(Custom(op)),
                [weight] => xs.apply_op2(weight, Custom(op)),
                [weight, bias, ..] => xs.apply_op3(weight, bias, Custom(op)),
            }
        }
        Place::Device => device::layer_norm(xs, weight, bias, options),
    }
}

/// Returns no operand, the weight, or weight and bias. For a bias without weight it adds a weight of ones, which
/// changes no bit of the result.
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

    /// Returns the options without weight and bias.
    #[cfg(feature = "candle-cuda")]
    pub fn options(&self) -> Options<'static> {
        Options { eps: self.eps, ..Options::default() }
    }

    /// Returns the options for kernels, with weight and bias from `operands`.
    fn with<'a>(&self, operands: &[View<'a>]) -> Result<Options<'a>> {
        let floats = |i: usize| operands.get(i).map(|operand| operand.floats(NAME)).transpose();
        Ok(Options { weight: floats(0)?, bias: floats(1)?, eps: self.eps })
    }
}

impl Op for LayerNorm {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.with(&args[1..])?);
        let y = map_storage!(NAME, x, data => crate::layer_norm(x.rows(data)?, &options)?);
        Ok((y, x.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        if let Place::Cpu = place(args[0], NAME)? {
            return norm_backward::gradients(Of::Layer { eps: self.eps }, args, grad);
        }
        norm::gradients(Kind { centred: true, eps: self.eps }, args, args.get(1).copied(), grad)
    }
}

impl InPlace for LayerNorm {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], args: &[View<'_>]) -> Result<()> {
        let options = self.with(args)?;
        each_memory!(xs, data => crate::layer_norm_in_place(RowsMut::shaped(data, dims)?, &options)?);
        Ok(())
    }
}
