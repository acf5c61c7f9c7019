//! Elementwise ops on two tensors of the same shape.

#![forbid(unsafe_code)]

use super::elementwise::{map_both, sigmoid};
use super::formula;
use crate::candle::composition::{product, quotient, shares};
use crate::candle::custom_op::{Custom, Op};
use crate::candle::device;
use crate::candle::place::{Place, limits, place};
use crate::candle::view::View;
use crate::ops::safe_div::SafeDiv as Options;
use candle_core::{CpuStorage, Error, Result, Shape, Tensor};

/// Computes x / d with a finite result.
pub fn safe_div(xs: &Tensor, d: &Tensor, options: &Options) -> Result<Tensor> {
    apply(xs, d, SafeDiv(*options), |xs, d| device::safe_div(xs, d, options))
}

/// Computes ln(e^a + e^b).
pub fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply(a, b, LogAddExp, device::log_add_exp)
}

pub(super) fn apply<O: Op + Send + Sync + 'static>(
    xs: &Tensor,
    other: &Tensor,
    op: O,
    composed: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let place = place(xs, O::NAME)?;
    if xs.shape() != other.shape() {
        let (lhs, rhs) = (xs.shape().clone(), other.shape().clone());
        return Err(Error::ShapeMismatchBinaryOp { lhs, rhs, op: O::NAME }.bt());
    }
    if xs.dtype() != other.dtype() {
        return Err(Error::DTypeMismatchBinaryOp { lhs: xs.dtype(), rhs: other.dtype(), op: O::NAME }.bt());
    }
    match place {
        Place::Cpu => xs.contiguous()?.apply_op2(&other.contiguous()?, Custom(op)),
        Place::Device => composed(xs, other),
    }
}

/// Computes the gradients of both arguments from their derivatives, which are f64.
fn gradients(op: &'static str, args: &[&Tensor], slopes: [Tensor; 2], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let dy = formula::wide(grad)?;
    let of = |(slope, arg): (&Tensor, &&Tensor)| formula::rounded(op, &product(slope, &dy)?, &dy, arg).map(Some);
    slopes.iter().zip(args).map(of).collect()
}

struct SafeDiv(Options);

impl Op for SafeDiv {
    const NAME: &'static str = "safe_div";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, d) = (args[0], args[1]);
        let y = map_both!(Self::NAME, x, d, |x, d| crate::safe_div(x, d, &self.0));
        Ok((y, x.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let limits = limits(args[0], Self::NAME)?;
        let (x, d) = (formula::wide(args[0])?, formula::wide(args[1])?);
        let (_, slopes) = quotient(&x, &d, self.0.checked(&limits)?, limits.max)?;
        gradients(Self::NAME, args, slopes, grad)
    }
}

struct LogAddExp;

impl Op for LogAddExp {
    const NAME: &'static str = "log_add_exp";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (args[0], args[1]);
        let y = map_both!(Self::NAME, a, b, crate::log_add_exp);
        Ok((y, a.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let slopes = shares(&formula::wide(args[0])?, &formula::wide(args[1])?, sigmoid)?;
        gradients(Self::NAME, args, slopes, grad)
    }
}
