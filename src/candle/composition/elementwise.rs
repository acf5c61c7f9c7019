//! Elementwise ops on one tensor, composed of candle's own ops.

#![forbid(unsafe_code)]

use super::{all, wide};
use crate::candle::support::limits;
use crate::ops::clamped_exp::ClampedExp;
use crate::ops::clamped_log::ClampedLog;
use candle_core::{DType, Result, Tensor};

/// Computes e^x of each element, after clamping x to a range, as [`crate::clamped_exp`] does.
///
/// # Errors
/// The errors of [`crate::clamped_exp`], wrapped in candle's error.
pub fn clamped_exp(xs: &Tensor, options: &ClampedExp) -> Result<Tensor> {
    let (min, max) = options.ends("clamped_exp", &limits(xs, "clamped_exp")?)?;
    let x = wide(xs)?;
    // Elements outside the range become constants, so their gradient is zero.
    let x = x.lt(min)?.where_cond(&all(&x, min)?, &x)?;
    let x = x.gt(max)?.where_cond(&all(&x, max)?, &x)?;
    x.exp()?.to_dtype(xs.dtype())
}

/// Computes ln x of each element, after replacing x below a floor by the floor, as [`crate::clamped_log`] does.
///
/// # Errors
/// The errors of [`crate::clamped_log`], wrapped in candle's error.
pub fn clamped_log(xs: &Tensor, options: &ClampedLog) -> Result<Tensor> {
    let floor = options.checked("clamped_log", &limits(xs, "clamped_log")?)?;
    let x = wide(xs)?;
    // The threshold is at least the smallest subnormal number. An element of 0 is therefore replaced even if the floor
    // rounds to 0 in the type of x.
    let is_below = x.lt(floor.max(limits(&x, "clamped_log")?.min_subnormal))?;
    let above = is_below.where_cond(&x.ones_like()?, &x)?;
    #[allow(clippy::disallowed_methods, reason = "candle's own functions, which compute the rest, use std's too")]
    let least = floor.ln();
    is_below.where_cond(&all(&x, least)?, &above.log()?)?.to_dtype(xs.dtype())
}

/// Computes the error function of each element, as [`crate::erf`] does.
pub fn erf(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.erf()?.to_dtype(xs.dtype())
}

/// Computes e^x of each element, as [`crate::exp`] does.
pub fn exp(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.exp()?.to_dtype(xs.dtype())
}

/// Computes 2^x of each element, as [`crate::exp2`] does.
pub fn exp2(xs: &Tensor) -> Result<Tensor> {
    (wide(xs)? * std::f64::consts::LN_2)?.exp()?.to_dtype(xs.dtype())
}

/// Computes e^x - 1 of each element, as [`crate::expm1`] does.
pub fn expm1(xs: &Tensor) -> Result<Tensor> {
    /// Limit of |x|. Below the limit, e^x - 1 may lose bits to cancellation, so the function computes `2 * t / (1 - t)`
    /// with `t = tanh(x / 2)` instead.
    const SMALL: f64 = 0.5;
    let x = wide(xs)?;
    let is_small = x.abs()?.lt(SMALL)?;
    // Candle computes the gradient of `small` for all elements, also where `small` is not selected. Large elements are
    // replaced by 0 here, so that this gradient is finite.
    let t = (is_small.where_cond(&x, &x.zeros_like()?)? * 0.5)?.tanh()?;
    let small = ((&t * 2.0)? / (1.0 - &t)?)?;
    is_small.where_cond(&small, &(x.exp()? - 1.0)?)?.to_dtype(xs.dtype())
}

/// Computes `x * (1 + erf(x / sqrt(2))) / 2` of each element, as [`crate::gelu`] does.
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    // Candle's own gelu is not used, because its gradient has an error of 1e-8.
    let x = from_lowest(&wide(xs)?)?;
    let share = ((&x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? * 0.5)? + 0.5;
    (x * share?)?.to_dtype(xs.dtype())
}

/// Replaces x below -1000 by -1000. At -1000, silu and gelu are already -0 in every type. Without the replacement,
/// candle's functions give NaN at -inf. NaN stays NaN.
fn from_lowest(x: &Tensor) -> Result<Tensor> {
    const LOWEST: f64 = -1000.0;
    x.lt(LOWEST)?.where_cond(&all(x, LOWEST)?, x)
}

/// Computes `x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) / 2` of each element, as [`crate::gelu_tanh`] does.
pub fn gelu_tanh(xs: &Tensor) -> Result<Tensor> {
    /// Limit to which |x| is clamped. At the limit, the factor (1 + tanh(..)) / 2 is already 0 or 1, and x^3 does not
    /// overflow.
    const FAR: f64 = 100.0;
    let x = from_lowest(&wide(xs)?)?;
    let inner = x.clamp(-FAR, FAR)?;
    // The constant is 2 * sqrt(2/pi).
    let z = ((&inner * ((inner.sqr()? * 0.044715)? + 1.0)?)? * 1.595_769_121_605_730_8)?;
    (x * candle_nn::ops::sigmoid(&z)?)?.to_dtype(xs.dtype())
}

/// Computes ln x of each element, as [`crate::log`] does.
pub fn log(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.log()?.to_dtype(xs.dtype())
}

/// Computes ln(1 + x) of each element, as [`crate::log1p`] does.
pub fn log1p(xs: &Tensor) -> Result<Tensor> {
    log1p_wide(&wide(xs)?)?.to_dtype(xs.dtype())
}

pub(super) fn log1p_wide(x: &Tensor) -> Result<Tensor> {
    /// Value above which x + 1 rounds to x.
    const LARGE: f64 = 1e18;
    // Four terms of the series of ln(1 + x) suffice if |x| is below about the fourth root of the type's unit roundoff.
    let small = if x.dtype() == DType::F64 { 1e-4 } else { 0.015 };
    let is_small = x.abs()?.lt(small)?;
    let short = is_small.where_cond(x, &x.zeros_like()?)?;
    let series = ((&short * -0.25)? + 1.0 / 3.0)?;
    let series = ((&short * series)?.neg()? + 0.5)?;
    let series = (&short * ((&short * series)?.neg()? + 1.0)?)?;
    // Computes `ln(s) * x / (s - 1)`, where s is the rounded sum 1 + x. The factor `x / (s - 1)` corrects the rounding
    // of s.
    let long = is_small.where_cond(&x.ones_like()?, x)?;
    let within = long.detach().minimum(LARGE)?;
    let correction = (&within / ((&within + 1.0)? - 1.0)?)?;
    is_small.where_cond(&series, &((long + 1.0)?.log()? * correction)?)
}

/// Computes log2 x of each element, as [`crate::log2`] does.
pub fn log2(xs: &Tensor) -> Result<Tensor> {
    (wide(xs)?.log()? * std::f64::consts::LOG2_E)?.to_dtype(xs.dtype())
}

/// Computes -ln(1 + e^-x) of each element, as [`crate::log_sigmoid`] does.
pub fn log_sigmoid(xs: &Tensor) -> Result<Tensor> {
    softplus_wide(&wide(xs)?.neg()?)?.neg()?.to_dtype(xs.dtype())
}

/// Computes 1 / x of each element, as [`crate::reciprocal`] does.
pub fn reciprocal(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.recip()?.to_dtype(xs.dtype())
}

/// Computes 1 / sqrt(x) of each element, as [`crate::rsqrt`] does.
pub fn rsqrt(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.sqrt()?.recip()?.to_dtype(xs.dtype())
}

/// Computes 1 / (1 + e^-x) of each element, as [`crate::sigmoid`] does.
pub fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    candle_nn::ops::sigmoid(&wide(xs)?)?.to_dtype(xs.dtype())
}

/// Computes x / (1 + e^-x) of each element, as [`crate::silu`] does.
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    from_lowest(&wide(xs)?)?.silu()?.to_dtype(xs.dtype())
}

/// Computes ln(1 + e^x) of each element, as [`crate::softplus`] does.
pub fn softplus(xs: &Tensor) -> Result<Tensor> {
    softplus_wide(&wide(xs)?)?.to_dtype(xs.dtype())
}

fn softplus_wide(x: &Tensor) -> Result<Tensor> {
    /// Value above which ln(1 + e^x) rounds to x in every type.
    const LARGE: f64 = 40.0;
    let is_below = x.lt(LARGE)?;
    let below = is_below.where_cond(x, &x.zeros_like()?)?;
    is_below.where_cond(&log1p_wide(&below.exp()?)?, x)
}

/// Computes sqrt x of each element, as [`crate::sqrt`] does.
pub fn sqrt(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.sqrt()?.to_dtype(xs.dtype())
}

/// Computes tanh x of each element, as [`crate::tanh`] does.
pub fn tanh(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.tanh()?.to_dtype(xs.dtype())
}
