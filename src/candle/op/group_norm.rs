//! Group normalisation of tensors.

#![forbid(unsafe_code)]

use super::norm;
use crate::candle::composition::{self, batch_and_channels};
use crate::candle::custom_op::{InPlace, Memory, Op, apply, each_memory};
use crate::candle::support::on_cpu;
use crate::candle::view::{View, map_storage, readable, tensor, with_views};
use crate::element::Element;
use crate::error::Result as Typed;
use crate::floats::Floats;
use crate::math::sum::tiled_sum;
use crate::ops::group_norm::GroupNorm as Options;
use crate::ops::layer_norm::LayerNorm;
use crate::rows::{LanesMut, Rows, RowsMut};
use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, Tensor};

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
    if !on_cpu(xs, NAME)? {
        return composition::group_norm(xs, weight, bias, options);
    }
    let operands = operands(xs, weight, bias, options)?;
    apply(&readable(xs, 1)?, &operands, GroupNorm::new(options))
}

/// Returns the operands of the op: none, the weight, or weight and bias. If there is a bias but no weight, the weight
/// is a tensor of ones, which changes no bit of the result.
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
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.with(&args[1..])?);
        let y = map_storage!(NAME, x, data => crate::group_norm(x.lanes(data, 1)?, &options)?);
        Ok((y, x.shape().clone()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
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

/// Computes the gradient of x, and the gradients of weight and bias if candle tracks them. Each group of a batch entry
/// is treated as a row of a layer normalisation. All columns of a channel have the channel's weight.
fn gradients(op: GroupNorm, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    const NAME: &str = "group_norm_backward";
    let xs = args[0];
    if xs.elem_count() == 0 {
        return args.iter().map(|arg| arg.zeros_like().map(Some)).collect();
    }
    let (channels, of_channel) = (xs.dims()[1], xs.dims()[2..].iter().product());
    let weight = args.get(1).map(|weight| weight.to_dtype(DType::F64)?.to_vec1()).transpose()?;
    let is_tracked = |i: usize| args.get(i).is_some_and(|operand| operand.track_op());
    let mut sums = [1, 2].map(|i| is_tracked(i).then(|| Vec::with_capacity(channels)));
    let (x, dy) = (xs.contiguous()?, grad.to_dtype(xs.dtype())?.contiguous()?);
    let dx = with_views(NAME, &[&x, &dy], |views| {
        let (x, dy) = (views[0], views[1]);
        Ok(map_storage!(NAME, x, data => {
            let dy = dy.elements(NAME, dy.like(NAME, data)?)?;
            let x = x.elements(NAME, data)?;
            Groups { x, dy, channels, of_channel, weight }.gradients(op, &mut sums)?
        }))
    })?;
    let mut grads = vec![Some(tensor(Storage::Cpu(dx), xs.shape()))];
    for (operand, sums) in args[1..].iter().zip(sums) {
        let of_operand = |sums| Tensor::from_vec(sums, operand.shape(), &Device::Cpu)?.to_dtype(operand.dtype());
        grads.push(sums.map(of_operand).transpose()?);
    }
    Ok(grads)
}

/// Inputs from which the gradients of group normalisation are computed.
struct Groups<'a, E> {
    x: &'a [E],
    dy: &'a [E],
    channels: usize,
    /// Number of elements of a channel in one batch entry.
    of_channel: usize,
    weight: Option<Vec<f64>>,
}

impl<E: Element> Groups<'_, E> {
    /// Returns the gradient of x. Appends the gradient of the weight to `sums[0]`, and the gradient of the bias to
    /// `sums[1]`. An entry of `sums` that is `None` is skipped. The gradients of weight and bias are summed over the
    /// batch in order, and then over each channel by a tiled sum.
    fn gradients(&self, op: GroupNorm, sums: &mut [Option<Vec<f64>>; 2]) -> Typed<Vec<E>> {
        let stride = self.channels * self.of_channel;
        let (batch, cols) = (self.x.len() / stride, stride / op.groups);
        let mut dx = vec![E::ZERO; self.x.len()];
        for group in 0..op.groups {
            let start = group * cols;
            let of_columns = self.weight.as_ref().map(|weight| -> Vec<f64> {
                (start..start + cols).map(|column| weight[column / self.of_channel]).collect()
            });
            let [mut dweight, mut dbias] = [0, 1].map(|i| sums[i].is_some().then(|| vec![0.0; cols]));
            let x = Rows::strided(&self.x[start..], batch, cols, stride)?;
            let dy = Rows::strided(&self.dy[start..], batch, cols, stride)?;
            let to = RowsMut::strided(&mut dx[start..], batch, cols, stride)?;
            let rooms = [&mut dweight, &mut dbias].map(|room| room.as_mut().map(Into::into));
            let options = LayerNorm { weight: of_columns.as_ref().map(Floats::from), bias: None, eps: op.eps };
            let [to_weight, to_bias] = rooms;
            crate::layer_norm_backward_into(x, dy, to, to_weight, to_bias, &options)?;
            for (sums, columns) in sums.iter_mut().zip([dweight, dbias]) {
                if let (Some(sums), Some(columns)) = (sums, columns) {
                    sums.extend(columns.chunks(self.of_channel).map(tiled_sum));
                }
            }
        }
        Ok(dx)
    }
}
