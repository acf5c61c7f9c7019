//! The norms and their gradients.

#![forbid(unsafe_code)]

use super::is_taken;
use super::kernel::{Kernel, View, each_type, operand_mut, tensor, views, written_rows, zeros};
use crate::candle::composition;
use crate::candle::op::{layer_norm as layer, norm::operand, rms_norm as rms};
use crate::cuda::{
    RowsMut, layer_norm_backward_into, layer_norm_into, memory, rms_norm_backward_into, rms_norm_into,
    rms_norm_residual_into,
};
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rms_norm::RmsNorm;
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Result, Shape, Tensor};

/// A norm with its settings, without weight and bias, which are arguments of the op.
#[derive(Clone, Copy)]
enum Of {
    Rms(rms::RmsNorm),
    Layer(layer::LayerNorm),
}

/// Computes root-mean-square normalisation along the last axis, as [`composition::rms_norm`] does.
pub fn rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &RmsNorm<'_>) -> Result<Tensor> {
    let operands: Vec<Tensor> =
        operand(rms::NAME, "weight", weight, options.weight, xs.device())?.into_iter().collect();
    if !are_taken(xs, &operands) {
        return composition::rms_norm(xs, weight, options);
    }
    apply(Of::Rms(rms::RmsNorm::new(options)), xs, &operands)
}

/// Computes layer normalisation along the last axis, as [`composition::layer_norm`] does.
pub fn layer_norm(
    xs: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &LayerNorm<'_>,
) -> Result<Tensor> {
    let operands = layer::operands(xs, weight, bias, options)?;
    if !are_taken(xs, &operands) {
        return composition::layer_norm(xs, weight, bias, options);
    }
    apply(Of::Layer(layer::LayerNorm::new(options)), xs, &operands)
}

/// Returns the norm of `xs + residual` and that sum, as [`composition::rms_norm_residual`] does. Where candle tracks
/// gradients, the composition itself is used.
pub fn rms_norm_residual(
    xs: &Tensor,
    residual: &Tensor,
    weight: Option<&Tensor>,
    options: &RmsNorm<'_>,
) -> Result<(Tensor, Tensor)> {
    let operands: Vec<Tensor> =
        operand(rms::NAME, "weight", weight, options.weight, xs.device())?.into_iter().collect();
    let is_tracked = [xs, residual].into_iter().chain(&operands).any(Tensor::track_op);
    if is_tracked || !are_taken(xs, &operands) || residual.dtype() != xs.dtype() {
        return composition::rms_norm_residual(xs, residual, weight, options);
    }
    let op = rms::RmsNorm::new(options);
    let args: Vec<&Tensor> = [xs, residual].into_iter().chain(&operands).collect();
    let [norm, sum] = views(rms::NAME, &args, |args| {
        let (x, residual) = (args[0], args[1]);
        let weight = args.get(2).map(|weight| weight.operand(rms::NAME)).transpose()?;
        each_type!(rms::NAME, x.dtype(), E => {
            let rows = [x.rows::<E>(rms::NAME)?, residual.rows::<E>(rms::NAME)?];
            let mut norm = memory::<E>(&x.stream(), x.shape().elem_count())?;
            let sum = written_rows(&x, |stream, sum| {
                let norm = RowsMut::new(norm.as_view_mut(), sum.rows(), sum.cols())?;
                rms_norm_residual_into(stream, rows, weight, [norm, sum], &op.options(None))
            })?;
            Ok([CudaStorage::wrap_cuda_slice(norm, sum.device().clone()), sum])
        })
    })?;
    Ok((tensor(norm, xs.shape()), tensor(sum, xs.shape())))
}

/// Returns whether the kernels support the tensor and its operands.
fn are_taken(xs: &Tensor, operands: &[Tensor]) -> bool {
    is_taken(xs) && operands.iter().all(|operand| operand.dtype() != DType::F64)
}

impl Of {
    fn name(&self) -> &'static str {
        match self {
            Of::Rms(_) => rms::NAME,
            Of::Layer(_) => layer::NAME,
        }
    }

    fn forward(self, args: &[View<'_>]) -> Result<(CudaStorage, Shape)> {
        let (name, x) = (self.name(), args[0]);
        let operand = |i: usize| args.get(i).map(|operand| operand.operand(name)).transpose();
        let (weight, bias) = (operand(1)?, operand(2)?);
        let y = each_type!(name, x.dtype(), E => {
            let rows = x.rows::<E>(name)?;
            written_rows(&x, |stream, y| match self {
                Of::Rms(norm) => rms_norm_into(stream, rows, weight, y, &norm.options(None)),
                Of::Layer(norm) => layer_norm_into(stream, rows, [weight, bias], y, &norm.options()),
            })
        })?;
        Ok((y, x.shape().clone()))
    }

    /// Computes the gradients of x, and of weight and bias where candle tracks them.
    fn backward(self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let name = self.name();
        let grad = grad.to_dtype(args[0].dtype())?;
        let all: Vec<&Tensor> = [args[0], &grad].into_iter().chain(args[1..].iter().copied()).collect();
        views(name, &all, |views| {
            let (x, dy, operands) = (views[0], views[1], &views[2..]);
            let mut made = [None, None];
            for ((made, view), tensor) in made.iter_mut().zip(operands).zip(&args[1..]) {
                *made = if tensor.track_op() { Some(zeros(name, view)?) } else { None };
            }
            let weight = operands.first().map(|weight| weight.operand(name)).transpose()?;
            let dx = each_type!(name, x.dtype(), E => {
                let rows = [x.rows::<E>(name)?, dy.rows::<E>(name)?];
                let [dweight, dbias] = &mut made;
                let dweight = dweight.as_mut().map(|made| operand_mut(name, made)).transpose()?;
                let dbias = dbias.as_mut().map(|made| operand_mut(name, made)).transpose()?;
                written_rows(&x, |stream, dx| match self {
                    Of::Rms(norm) => rms_norm_backward_into(stream, rows, weight, dx, dweight, &norm.options(None)),
                    Of::Layer(norm) => {
                        layer_norm_backward_into(stream, rows, weight, dx, [dweight, dbias], &norm.options())
                    }
                })
            })?;
            let of_operands =
                made.into_iter().zip(operands).map(|(made, view)| made.map(|made| tensor(made, view.shape())));
            Ok([Some(tensor(dx, x.shape()))].into_iter().chain(of_operands).collect())
        })
    }
}

/// Applies the norm to a tensor with its operands.
fn apply(of: Of, xs: &Tensor, operands: &[Tensor]) -> Result<Tensor> {
    let kernel = Kernel {
        name: of.name(),
        forward: move |args: &[View<'_>]| of.forward(args),
        backward: move |args: &[&Tensor], grad: &Tensor| of.backward(args, grad),
    };
    let xs = xs.contiguous()?;
    match operands {
        [] => xs.apply_op1(kernel),
        [weight] => xs.apply_op2(weight, kernel),
        [weight, bias, ..] => xs.apply_op3(weight, bias, kernel),
    }
}
