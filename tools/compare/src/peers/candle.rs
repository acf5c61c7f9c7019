//! candle's autograd.

use candle_core::{Error, Result, Tensor, Var};

/// Returns the gradient of a function of a tensor, given the gradient `dy` of its result. Runs a forward and a backward
/// pass.
pub fn gradient(xs: &Var, dy: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    gradient_of(xs, || (f(xs)? * dy)?.sum_all())
}

/// Returns the gradient of a scalar with respect to a tensor.
pub fn gradient_of(xs: &Var, loss: impl Fn() -> Result<Tensor>) -> Result<Tensor> {
    loss()?
        .backward()?
        .remove(xs)
        .ok_or_else(|| Error::Msg("candle gives no gradient: the loss must depend on the variable xs".into()))
}
