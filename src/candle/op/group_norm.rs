//! Group normalisation of tensors.

#![forbid(unsafe_code)]

use super::group_norm_backward::gradients;
use super::norm;
use crate::candle::composition;
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, each_memory};
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::error::Error;
use crate::ops::group_norm::GroupNorm as Options;
use crate::rows::LanesMut;
use candle_core::{CpuStorage, DType, Result, Shape, Tensor};

pub const NAME: &str = "group_norm";

/// Options without weight and bias, which are arguments of the op.
#[derive(Clone, Copy)]
pub struct GroupNorm {
    pub groups: usize,
    pub eps: f64,
}

/// Computes group normalisation of `[batch, channels, ..]`.
pub fn group_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &Options<'_>,
) -> Result<Tensor> {
    let op = GroupNorm::new(options);
    match place(xs, NAME)? {
        Place::Cpu => {
            let operands = operands(xs, weight, bias, options)?;
            let xs = readable(xs, 1)?;
            match operands.as_slice() {
                [] => xs.apply_op1(Custom(op)),
                [weight] => xs.apply_op2(weight, Custom(op)),
                [weight, bias, ..] => xs.apply_op3(weight, bias, Custom(op)),
            }
        }
        Place::Device => composition::group_norm(xs, weight, bias, options),
    }
}

/// Returns the lengths of the first two axes.
pub fn batch_and_channels(xs: &Tensor) -> Result<(usize, usize)> {
    match xs.dims() {
        [batch, channels, ..] => Ok((*batch, *channels)),
        dims => Err(Error::shape(NAME, "x", format!("shape {dims:?}"), "[batch, channels, ..]").into()),
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
    let (_, channels) = batch_and_channels(xs)?;
    let weight = norm::operand(NAME, "weight", weight, options.weight, xs.device())?;
    let bias = norm::operand(NAME, "bias", bias, options.bias, xs.device())?;
    let weight = match (&weight, &bias) {
        (None, Some(_)) => Some(Tensor::ones(channels, DType::F32, xs.device())?),
        _ => weight,
    };
    Ok(weight.into_iter().chain(bias).collect())
}

impl GroupNorm {
    pub fn new(options: &Options<'_>) -> Self {
        GroupNorm { groups: options.groups, eps: options.eps }
    }

    /// Returns the options for kernels, with weight and bias from `operands`.
    fn with<'a>(&self, operands: &[View<'a>]) -> Result<Options<'a>> {
        let floats = |i: usize| operands.get(i).map(|operand| operand.floats(NAME)).transpose();
        Ok(Options { groups: self.groups, weight: floats(0)?, bias: floats(1)?, eps: self.eps })
    }
}

impl Op for GroupNorm {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.with(&args[1..])?);
        let y = map_storage!(NAME, x, data => crate::group_norm(x.lanes(data, 1)?, &options)?);
        Ok((y, x.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        gradients(*self, args, grad)
    }
}

impl InPlace for GroupNorm {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], args: &[View<'_>]) -> Result<()> {
        let options = self.with(args)?;
        each_memory!(xs, data => crate::group_norm_in_place(LanesMut::shaped(data, dims, 1)?, &options)?);
        Ok(())
    }
}
