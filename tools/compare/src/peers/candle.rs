//! candle's autograd.

use candle_core::{Error, Result, Tensor, Var};

/// The gradient of a function of a tensor for this gradient of its result: forward and backward.
pub fn gradient(xs: &Var, dy: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    gradient_of(xs, || (f(xs)? * dy)?.sum_all())
}

/// The gradient of a number that depends on a tensor.
pub fn gradient_of(xs: &Var, loss: impl Fn() -> Result<Tensor>) -> Result<Tensor> {
    loss()?.backward()?.remove(xs).ok_or_else(|| Error::Msg("the result does not depend on the variable".into()))
}
