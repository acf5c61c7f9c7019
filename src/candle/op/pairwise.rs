//! Elementwise ops on two tensors of the same shape.

#![forbid(unsafe_code)]

use super::elementwise::{map_both, sigmoid};
use super::formula;
use crate::candle::composition::{self, product, quotient, shares};
use crate::candle::custom_op::{Custom, Op};
use crate::candle::support::{check_dtype, limits};
use crate::candle::view::{View, map_storage};
use crate::ops::safe_div::SafeDiv as Options;
use candle_core::{CpuStorage, Error, Result, Shape, Tensor};
use std::slice;
#[cfg(feature = "candle-cuda")]
use {
    super::elementwise::cuda_fwd, crate::candle::cuda::supports, crate::cuda::elementwise::Function,
    candle_core::CudaStorage,
};

/// Computes x / d with a finite result.
pub fn safe_div(xs: &Tensor, d: &Tensor, options: &Options) -> Result<Tensor> {
    apply(xs, d, SafeDiv(*options), |xs, d| composition::safe_div(xs, d, options))
}

/// Computes ln(e^a + e^b).
pub fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply(a, b, LogAddExp, composition::log_add_exp)
}

/// Returns whether the op can run as a CUDA kernel: the kernels support the tensor, and candle tracks no gradients.
/// The gradients of safe_div and log_add_exp have no CUDA kernels.
#[cfg(feature = "candle-cuda")]
fn has_cuda_kernel(xs: &Tensor, operands: &[Tensor]) -> bool {
    supports(xs) && !xs.track_op() && !operands.iter().any(Tensor::track_op)
}

pub(super) fn apply<O: Op + Send + Sync + 'static>(
    xs: &Tensor,
    other: &Tensor,
    op: O,
    composed: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    check_dtype(xs, op.name())?;
    if xs.shape() != other.shape() {
        let (lhs, rhs) = (xs.shape().clone(), other.shape().clone());
        return Err(Error::ShapeMismatchBinaryOp { lhs, rhs, op: op.name() }.bt());
    }
    if xs.dtype() != other.dtype() {
        return Err(Error::DTypeMismatchBinaryOp { lhs: xs.dtype(), rhs: other.dtype(), op: op.name() }.bt());
    }
    if !op.has_kernel(xs, slice::from_ref(other))? {
        return composed(xs, other);
    }
    xs.contiguous()?.apply_op2(&other.contiguous()?, Custom(op))
}

/// Computes the gradients of both arguments. `derivatives` holds the derivative of the result with respect to each
/// argument, in f64.
fn gradients(
    op: &'static str,
    args: &[&Tensor],
    derivatives: [Tensor; 2],
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let dy = formula::wide(grad)?;
    let of =
        |(derivative, arg): (&Tensor, &&Tensor)| formula::rounded(op, &product(derivative, &dy)?, &dy, arg).map(Some);
    derivatives.iter().zip(args).map(of).collect()
}

struct SafeDiv(Options);

impl Op for SafeDiv {
    fn name(&self) -> &'static str {
        "safe_div"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, d) = (args[0], args[1]);
        let y = map_both!(self.name(), x, d, |x, d| crate::safe_div(x, d, &self.0));
        Ok((y, x.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, xs: &Tensor, operands: &[Tensor]) -> bool {
        has_cuda_kernel(xs, operands)
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        cuda_fwd(self.name(), Function::SafeDiv(self.0), Some("d"), args)
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let limits = limits(args[0], self.name())?;
        let (x, d) = (formula::wide(args[0])?, formula::wide(args[1])?);
        let (_, derivatives) = quotient(&x, &d, self.0.checked(&limits)?, limits.max)?;
        gradients(self.name(), args, derivatives, grad)
    }
}

struct LogAddExp;

impl Op for LogAddExp {
    fn name(&self) -> &'static str {
        "log_add_exp"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (args[0], args[1]);
        let y = map_both!(self.name(), a, b, crate::log_add_exp);
        Ok((y, a.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, xs: &Tensor, operands: &[Tensor]) -> bool {
        has_cuda_kernel(xs, operands)
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        cuda_fwd(self.name(), Function::LogAddExp, Some("b"), args)
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let derivatives = shares(&formula::wide(args[0])?, &formula::wide(args[1])?, sigmoid)?;
        gradients(self.name(), args, derivatives, grad)
    }
}
