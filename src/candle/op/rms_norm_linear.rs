//! Root-mean-square normalisation of a tensor, followed by a linear layer.

#![forbid(unsafe_code)]

use super::norm::{self, NormOp};
use super::rms_norm::{RmsNorm, rms_norm};
use crate::candle::composition::{self, wide};
use crate::candle::custom_op::{Custom, Op};
use crate::candle::support::on_cpu;
use crate::candle::view::{View, map_storage, readable};
use crate::error::Error;
use crate::floats::Floats;
use crate::ops::rms_norm_linear::RmsNormLinear as Options;
use crate::rows::Rows;
use candle_core::{CpuStorage, DType, Error as CandleError, Result, Shape, Tensor};

const NAME: &str = "rms_norm_linear";

/// Normalises along the last axis, then applies a linear layer with a matrix `[results, cols]`.
pub fn rms_norm_linear(
    xs: &Tensor,
    matrix: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &Options<'_>,
) -> Result<Tensor> {
    if matrix.rank() != 2 {
        return Err(Error::shape(NAME, "matrix", format!("shape {:?}", matrix.dims()), "2 axes").into());
    }
    if matrix.dtype() != xs.dtype() {
        return Err(CandleError::DTypeMismatchBinaryOp { lhs: xs.dtype(), rhs: matrix.dtype(), op: NAME }.bt());
    }
    if !on_cpu(xs, NAME)? {
        return composition::rms_norm_linear(xs, matrix, weight, bias, options);
    }
    let xs = readable(xs, norm::last_axis(NAME, xs)?)?;
    let matrix = readable(matrix, 1)?;
    let weight = norm::operand(NAME, "weight", weight, options.norm.weight, xs.device())?;
    let bias = norm::operand(NAME, "bias", bias, options.bias, xs.device())?;
    let op = RmsNormLinear {
        norm: RmsNorm::new(&options.norm),
        rounded: options.rounded,
        weights: weight.as_ref().map(Tensor::elem_count),
        has_bias: bias.is_some(),
    };
    // Candle's custom ops take at most three tensors, so weight and bias are concatenated. Both are first converted to
    // f64, which is exact.
    let exact = |operand: Tensor| operand.to_dtype(DType::F64);
    let operands = weight.into_iter().chain(bias).map(exact).collect::<Result<Vec<_>>>()?;
    match operands.is_empty() {
        true => xs.apply_op2(&matrix, Custom(op)),
        false => xs.apply_op3(&matrix, &Tensor::cat(&operands, 0)?, Custom(op)),
    }
}

/// Op with the arguments x and matrix. If there is a weight, a bias or both, a third argument holds them, the weight
/// first.
struct RmsNormLinear {
    norm: RmsNorm,
    rounded: bool,
    /// Number of elements of the norm's weight, if there is one.
    weights: Option<usize>,
    has_bias: bool,
}

impl Op for RmsNormLinear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, matrix) = (args[0], args[1]);
        let operands: &[f64] = match args.get(2).map(|operands| operands.floats(NAME)).transpose()? {
            Some(Floats::F64(operands)) => operands,
            _ => &[],
        };
        let (weight, bias) = operands.split_at(self.weights.unwrap_or(0));
        let norm = self.norm.options(self.weights.map(|_| weight.into()));
        let options = Options { norm, bias: self.has_bias.then(|| bias.into()), rounded: self.rounded };
        let y = map_storage!(NAME, x, data => {
            let matrix: Rows<'_, _> = matrix.rows(matrix.like(NAME, data)?)?;
            crate::rms_norm_linear(x.rows(data)?, matrix, &options)?
        });
        let mut dims = x.shape().dims().to_vec();
        dims.pop();
        dims.push(matrix.shape().dims()[0]);
        Ok((y, dims.into()))
    }

    /// Computes the gradients with candle's matrix products and the kernels of the norm's gradients.
    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (xs, matrix) = (args[0], args[1]);
        let (results, cols) = matrix.dims2()?;
        let rows = grad.elem_count().checked_div(results).unwrap_or(0);
        let grad = wide(grad)?.reshape((rows, results))?;
        let weight = match (self.weights, args.get(2)) {
            (Some(weights), Some(operands)) => Some(operands.narrow(0, 0, weights)?),
            _ => None,
        };
        let norm = self.norm.options(None);
        let n = wide(&rms_norm(&xs.detach(), weight.as_ref().map(Tensor::detach).as_ref(), &norm)?)?;
        let dmatrix = grad.t()?.matmul(&n.reshape((rows, cols))?)?.to_dtype(matrix.dtype())?;
        let dn = grad.matmul(&wide(matrix)?)?.reshape(xs.shape())?.to_dtype(xs.dtype())?;
        let arguments: Vec<&Tensor> = [xs].into_iter().chain(&weight).collect();
        let mut of_norm = norm::gradients(NormOp::Rms(self.norm), &arguments, &dn)?.into_iter();
        let dx = of_norm.next().flatten();
        let dweight = of_norm.next().flatten();
        let dbias = if self.has_bias { Some(grad.sum(0)?.to_dtype(DType::F64)?) } else { None };
        let of_operands: Vec<Tensor> = dweight.into_iter().chain(dbias).collect();
        let doperands = if of_operands.is_empty() { None } else { Some(Tensor::cat(&of_operands, 0)?) };
        Ok(vec![dx, Some(dmatrix), doperands])
    }
}
