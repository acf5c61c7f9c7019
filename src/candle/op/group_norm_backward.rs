//! Gradients of group normalisation, computed as those of layer normalisation. Each group of each batch entry is a row,
//! and all columns of a channel have the channel's weight.

#![forbid(unsafe_code)]

use super::group_norm::GroupNorm;
use super::norm_backward::{elements, on_cpu, tensor};
use crate::candle::view::{View, map_storage};
use crate::element::Element;
use crate::error::Result as Typed;
use crate::floats::Floats;
use crate::math::sum::tiled_sum;
use crate::ops::layer_norm::LayerNorm;
use crate::rows::{Rows, RowsMut};
use candle_core::{DType, Device, Error, Result, Tensor};

const NAME: &str = "group_norm_backward";

/// Computes the gradients of x, and of weight and bias where candle tracks them.
pub fn gradients(op: GroupNorm, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let xs = args[0];
    if xs.elem_count() == 0 {
        return args.iter().map(|arg| arg.zeros_like().map(Some)).collect();
    }
    let (channels, of_channel) = (xs.dims()[1], xs.dims()[2..].iter().product());
    let weight = args.get(1).map(|weight| weight.to_dtype(DType::F64)?.to_vec1()).transpose()?;
    let is_tracked = |i: usize| args.get(i).is_some_and(|operand| operand.track_op());
    let mut sums = [1, 2].map(|i| is_tracked(i).then(|| Vec::with_capacity(channels)));
    let (x, dy) = (xs.contiguous()?, grad.to_dtype(xs.dtype())?.contiguous()?);
    let ((x, x_layout), (dy, dy_layout)) = (x.storage_and_layout(), dy.storage_and_layout());
    let x = View { storage: on_cpu(NAME, &x)?, layout: x_layout };
    let dy = View { storage: on_cpu(NAME, &dy)?, layout: dy_layout };
    let dx = map_storage!(NAME, x, data => {
        let contiguous = || Error::RequiresContiguous { op: NAME }.bt();
        let dy = dy.contiguous(elements(NAME, &dy, data)?).ok_or_else(contiguous)?;
        let x = x.contiguous(data).ok_or_else(contiguous)?;
        Groups { x, dy, channels, of_channel, weight }.gradients(op, &mut sums)?
    });
    let mut grads = vec![Some(tensor(NAME, dx, xs)?)];
    for (operand, sums) in args[1..].iter().zip(sums) {
        let of_operand = |sums| Tensor::from_vec(sums, operand.shape(), &Device::Cpu)?.to_dtype(operand.dtype());
        grads.push(sums.map(of_operand).transpose()?);
    }
    Ok(grads)
}

/// Inputs of the gradients.
struct Groups<'a, E> {
    x: &'a [E],
    dy: &'a [E],
    channels: usize,
    /// Number of elements of a channel in one batch entry.
    of_channel: usize,
    weight: Option<Vec<f64>>,
}

impl<E: Element> Groups<'_, E> {
    /// Returns dx, and appends dweight and dbias to the vectors in `sums` that are present. Each is summed over the
    /// batch in order, then over each channel by a tiled sum.
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
