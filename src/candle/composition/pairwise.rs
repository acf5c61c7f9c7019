//! Elementwise ops on two tensors, composed of candle's own ops.
//!
//! Division and log_add_exp have explicit derivatives. Candle's rule for a quotient squares the divisor, which may
//! overflow. Candle's rule for a maximum treats the two elements differently, but log_add_exp is symmetric.

#![forbid(unsafe_code)]

use super::elementwise::{log1p_wide, silu};
use super::{all, limited, product, wide};
use crate::candle::support::limits;
use crate::ops::safe_div::SafeDiv;
use candle_core::{Result, Tensor};

/// Computes x / d of each pair of elements, as [`crate::safe_div`] does.
///
/// # Errors
/// The errors of [`crate::safe_div`], wrapped in candle's error.
pub fn safe_div(xs: &Tensor, d: &Tensor, options: &SafeDiv) -> Result<Tensor> {
    let of_type = limits(xs, "safe_div")?;
    let (x, d) = (wide(xs)?, wide(d)?);
    let (q, derivatives) = quotient(&x, &d, options.checked(&of_type)?, of_type.max)?;
    with_derivatives(limited(&q, of_type.max)?, [&x, &d], derivatives)?.to_dtype(xs.dtype())
}

/// Returns the quotient x / d, and its derivatives with respect to x and d. A divisor with |d| below eps is replaced by
/// eps with the sign of d. The quotient is not yet clamped.
///
/// The derivatives are 1 / d and -x / d^2, with the following exceptions. Both derivatives are 0 if the magnitude of
/// the quotient exceeds `largest`, or if eps and d are both 0. The derivative with respect to d is also 0 if
/// |d| is below eps. Both derivatives are NaN if the quotient is NaN. A derivative outside the type's range is limited
/// to the type's largest value.
pub(crate) fn quotient(x: &Tensor, d: &Tensor, eps: f64, largest: f64) -> Result<(Tensor, [Tensor; 2])> {
    let (x, d) = (x.detach(), d.detach());
    let zero = d.zeros_like()?;
    let is_below = d.abs()?.lt(eps)?;
    // `d < 0` is false for -0. The sign of d is therefore the sign of 1 / d, which is -inf for -0.
    let least = d.recip()?.lt(0.0)?.where_cond(&all(&d, -eps)?, &all(&d, eps)?)?;
    let divisor = is_below.where_cond(&least, &d)?;
    let is_zero = divisor.eq(0.0)?;
    let q = (&x / &divisor)?;
    let q = is_zero.where_cond(&x.eq(0.0)?.where_cond(&zero, &q)?, &q)?;
    let steepest = limits(&x, "safe_div")?.max;
    let derivative = is_zero.where_cond(&zero, &limited(&divisor.recip()?, steepest)?)?;
    let by_x = q.abs()?.gt(largest)?.where_cond(&zero, &derivative)?;
    let by_d = limited(&product(&by_x, &q)?.neg()?, steepest)?;
    let by_d = is_below.where_cond(&zero, &by_d)?;
    let is_nan = q.ne(&q)?;
    let derivatives = [is_nan.where_cond(&q, &by_x)?, is_nan.where_cond(&q, &by_d)?];
    Ok((q, derivatives))
}

/// Computes ln(e^a + e^b) of each pair of elements, as [`crate::log_add_exp`] does.
///
/// # Errors
/// Candle's error for tensors whose shapes do not match.
pub fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = a.dtype();
    let (a, b) = (wide(a)?, wide(b)?);
    let distance = difference(&a, &b)?.abs()?;
    let larger = a.lt(&b)?.where_cond(&b, &a)?.detach();
    let y = (larger + log1p_wide(&distance.neg()?.exp()?)?)?;
    with_derivatives(y, [&a, &b], shares(&a, &b, candle_nn::ops::sigmoid)?)?.to_dtype(dtype)
}

/// Computes silu(gate) * up of each pair of elements, as [`crate::swiglu`] does.
///
/// # Errors
/// Candle's error for tensors whose shapes do not match.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    (silu(&wide(gate)?)? * wide(up)?)?.to_dtype(gate.dtype())
}

/// Returns the derivatives of ln(e^a + e^b) with respect to a and b: e^a / (e^a + e^b) and e^b / (e^a + e^b). If a and
/// b are both -inf, both derivatives are 0.
pub(crate) fn shares(a: &Tensor, b: &Tensor, sigmoid: fn(&Tensor) -> Result<Tensor>) -> Result<[Tensor; 2]> {
    let difference = difference(a, b)?;
    let (a, b, zero) = (a.detach(), b.detach(), difference.zeros_like()?);
    let is_none = a.eq(f64::NEG_INFINITY)?.where_cond(&b, &zero)?.eq(f64::NEG_INFINITY)?;
    let share = |of: &Tensor| is_none.where_cond(&zero, &sigmoid(of)?);
    Ok([share(&difference)?, share(&difference.neg()?)?])
}

/// Returns a - b. For two equal infinities, returns 0.
fn difference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (a.detach(), b.detach());
    a.eq(&b)?.where_cond(&a.zeros_like()?, &(&a - &b)?)
}

/// Makes `value` differentiable by candle with respect to `args`. `derivatives` holds the derivative of `value` with
/// respect to each argument.
fn with_derivatives(value: Tensor, args: [&Tensor; 2], derivatives: [Tensor; 2]) -> Result<Tensor> {
    let mut y = value;
    for (arg, derivative) in args.into_iter().zip(derivatives) {
        // An infinite argument would give inf - inf, which is NaN. The argument is therefore replaced by 0 and gets no
        // gradient.
        let arg = arg.abs()?.eq(f64::INFINITY)?.where_cond(&arg.zeros_like()?, arg)?;
        y = (y + ((&arg - arg.detach())? * derivative)?)?;
    }
    Ok(y)
}
