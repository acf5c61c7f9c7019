//! Compositions of two elements at a time.
//!
//! Their gradients are by slopes of their own: by candle's rules a quotient's squares the divisor, and that of a maximum
//! depends on which of two is the larger.

#![forbid(unsafe_code)]

use super::elementwise::{log1p_wide, silu};
use super::{all, limited, product, wide};
use crate::candle::place::limits;
use crate::ops::safe_div::SafeDiv;
use candle_core::{Result, Tensor};

/// x / d of each pair of elements, as [`crate::safe_div`].
///
/// # Errors
/// As [`crate::safe_div`], inside candle's.
pub fn safe_div(xs: &Tensor, d: &Tensor, options: &SafeDiv) -> Result<Tensor> {
    let of_type = limits(xs, "safe_div")?;
    let (x, d) = (wide(xs)?, wide(d)?);
    let (q, slopes) = quotient(&x, &d, options.checked(&of_type)?, of_type.max)?;
    with_slopes(limited(&q, of_type.max)?, [&x, &d], slopes)?.to_dtype(xs.dtype())
}

/// x / d with d not below eps, and its slopes by x and by d, where it is not beyond the largest value.
///
/// 1 / d and -x / d^2, and 0 where a small step changes nothing: beyond the largest value, by d also below eps. Where
/// eps is 0 and d, too, both are 0; where the quotient is NaN, NaN. A slope that the type does not hold is its largest
/// value.
pub(crate) fn quotient(x: &Tensor, d: &Tensor, eps: f64, largest: f64) -> Result<(Tensor, [Tensor; 2])> {
    let (x, d) = (x.detach(), d.detach());
    let zero = d.zeros_like()?;
    let is_below = d.abs()?.lt(eps)?;
    // The sign of -0 shows in its reciprocal alone.
    let least = d.recip()?.lt(0.0)?.where_cond(&all(&d, -eps)?, &all(&d, eps)?)?;
    let divisor = is_below.where_cond(&least, &d)?;
    let is_zero = divisor.eq(0.0)?;
    let q = (&x / &divisor)?;
    let q = is_zero.where_cond(&x.eq(0.0)?.where_cond(&zero, &q)?, &q)?;
    let steepest = limits(&x, "safe_div")?.max;
    let slope = is_zero.where_cond(&zero, &limited(&divisor.recip()?, steepest)?)?;
    let by_x = q.abs()?.gt(largest)?.where_cond(&zero, &slope)?;
    let by_d = limited(&product(&by_x, &q)?.neg()?, steepest)?;
    let by_d = is_below.where_cond(&zero, &by_d)?;
    let is_nan = q.ne(&q)?;
    let slopes = [is_nan.where_cond(&q, &by_x)?, is_nan.where_cond(&q, &by_d)?];
    Ok((q, slopes))
}

/// ln(e^a + e^b) of each pair of elements, as [`crate::log_add_exp`].
///
/// # Errors
/// Candle's, where the tensors do not fit.
pub fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = a.dtype();
    let (a, b) = (wide(a)?, wide(b)?);
    let distance = difference(&a, &b)?.abs()?;
    let larger = a.lt(&b)?.where_cond(&b, &a)?.detach();
    let y = (larger + log1p_wide(&distance.neg()?.exp()?)?)?;
    with_slopes(y, [&a, &b], shares(&a, &b, candle_nn::ops::sigmoid)?)?.to_dtype(dtype)
}

/// silu(gate) * up of each pair of elements, as [`crate::swiglu`].
///
/// # Errors
/// Candle's, where the tensors do not fit.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    (silu(&wide(gate)?)? * wide(up)?)?.to_dtype(gate.dtype())
}

/// The slopes of ln(e^a + e^b): e^a and e^b over their sum. Two of -inf have none.
pub(crate) fn shares(a: &Tensor, b: &Tensor, sigmoid: fn(&Tensor) -> Result<Tensor>) -> Result<[Tensor; 2]> {
    let difference = difference(a, b)?;
    let (a, b, zero) = (a.detach(), b.detach(), difference.zeros_like()?);
    let is_none = a.eq(f64::NEG_INFINITY)?.where_cond(&b, &zero)?.eq(f64::NEG_INFINITY)?;
    let share = |of: &Tensor| is_none.where_cond(&zero, &sigmoid(of)?);
    Ok([share(&difference)?, share(&difference.neg()?)?])
}

/// a - b, which is 0 of two equal infinities.
fn difference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (a.detach(), b.detach());
    a.eq(&b)?.where_cond(&a.zeros_like()?, &(&a - &b)?)
}

/// The value, with a gradient of each argument that is its slope times that of the result.
fn with_slopes(value: Tensor, args: [&Tensor; 2], slopes: [Tensor; 2]) -> Result<Tensor> {
    let mut y = value;
    for (arg, slope) in args.into_iter().zip(slopes) {
        // An infinity less itself is NaN: it is left without.
        let arg = arg.abs()?.eq(f64::INFINITY)?.where_cond(&arg.zeros_like()?, arg)?;
        y = (y + ((&arg - arg.detach())? * slope)?)?;
    }
    Ok(y)
}
