//! Compositions of single elements.

#![forbid(unsafe_code)]

use super::{all, wide};
use crate::candle::place::limits;
use crate::ops::clamped_exp::ClampedExp;
use crate::ops::clamped_log::ClampedLog;
use candle_core::{DType, Result, Tensor};

/// e^x of each element, as [`crate::exp`].
pub fn exp(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.exp()?.to_dtype(xs.dtype())
}

/// ln x of each element, as [`crate::log`].
pub fn log(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.log()?.to_dtype(xs.dtype())
}

/// 2^x of each element, as [`crate::exp2`].
pub fn exp2(xs: &Tensor) -> Result<Tensor> {
    (wide(xs)? * std::f64::consts::LN_2)?.exp()?.to_dtype(xs.dtype())
}

/// log2 x of each element, as [`crate::log2`].
pub fn log2(xs: &Tensor) -> Result<Tensor> {
    (wide(xs)?.log()? * std::f64::consts::LOG2_E)?.to_dtype(xs.dtype())
}

/// 1 / x of each element, as [`crate::reciprocal`].
pub fn reciprocal(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.recip()?.to_dtype(xs.dtype())
}

/// e^x of each element, brought to within a range first, as [`crate::clamped_exp`].
///
/// # Errors
/// As [`crate::clamped_exp`], inside candle's.
pub fn clamped_exp(xs: &Tensor, options: &ClampedExp) -> Result<Tensor> {
    let (min, max) = options.ends("clamped_exp", &limits(xs, "clamped_exp")?)?;
    let x = wide(xs)?;
    // A choice, so that nothing flows back from beyond the range.
    let x = x.lt(min)?.where_cond(&all(&x, min)?, &x)?;
    let x = x.gt(max)?.where_cond(&all(&x, max)?, &x)?;
    x.exp()?.to_dtype(xs.dtype())
}

/// ln x of each element, or of a floor where x is below it, as [`crate::clamped_log`].
///
/// # Errors
/// As [`crate::clamped_log`], inside candle's.
pub fn clamped_log(xs: &Tensor, options: &ClampedLog) -> Result<Tensor> {
    let floor = options.checked("clamped_log", &limits(xs, "clamped_log")?)?;
    let x = wide(xs)?;
    // A floor that the type rounds to zero is still above all that is not positive.
    let is_below = x.lt(floor.max(limits(&x, "clamped_log")?.min_subnormal))?;
    let above = is_below.where_cond(&x.ones_like()?, &x)?;
    is_below.where_cond(&all(&x, floor.ln())?, &above.log()?)?.to_dtype(xs.dtype())
}

/// 1 / (1 + e^-x) of each element, as [`crate::sigmoid`].
pub fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    candle_nn::ops::sigmoid(&wide(xs)?)?.to_dtype(xs.dtype())
}

/// x / (1 + e^-x) of each element, as [`crate::silu`].
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    from_lowest(&wide(xs)?)?.silu()?.to_dtype(xs.dtype())
}

/// x, moved up to where a gated unit is -0 in every type: candle's is NaN at -inf.
fn from_lowest(x: &Tensor) -> Result<Tensor> {
    const LOWEST: f64 = -1000.0;
    x.lt(LOWEST)?.where_cond(&all(x, LOWEST)?, x)
}

/// The error function of each element, as [`crate::erf`].
pub fn erf(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.erf()?.to_dtype(xs.dtype())
}

/// e^x - 1 of each element, as [`crate::expm1`].
pub fn expm1(xs: &Tensor) -> Result<Tensor> {
    /// Below it e^x - 1 has lost a bit; 2 t / (1 - t) with t = tanh(x / 2) has not.
    const SMALL: f64 = 0.5;
    let x = wide(xs)?;
    let is_small = x.abs()?.lt(SMALL)?;
    // What is not chosen has a finite gradient.
    let t = (is_small.where_cond(&x, &x.zeros_like()?)? * 0.5)?.tanh()?;
    let small = ((&t * 2.0)? / (1.0 - &t)?)?;
    is_small.where_cond(&small, &(x.exp()? - 1.0)?)?.to_dtype(xs.dtype())
}

/// ln(1 + x) of each element, as [`crate::log1p`].
pub fn log1p(xs: &Tensor) -> Result<Tensor> {
    log1p_wide(&wide(xs)?)?.to_dtype(xs.dtype())
}

pub(super) fn log1p_wide(x: &Tensor) -> Result<Tensor> {
    /// Beyond it a 1 does not show.
    const LARGE: f64 = 1e18;
    // The fourth root of the type's unit: up to there, four terms of the series are enough.
    let small = if x.dtype() == DType::F64 { 1e-4 } else { 0.015 };
    let is_small = x.abs()?.lt(small)?;
    let short = is_small.where_cond(x, &x.zeros_like()?)?;
    let series = ((&short * -0.25)? + 1.0 / 3.0)?;
    let series = ((&short * series)?.neg()? + 0.5)?;
    let series = (&short * ((&short * series)?.neg()? + 1.0)?)?;
    // The logarithm of the sum as rounded, times x over what was added of it.
    let long = is_small.where_cond(&x.ones_like()?, x)?;
    let within = long.detach().minimum(LARGE)?;
    let correction = (&within / ((&within + 1.0)? - 1.0)?)?;
    is_small.where_cond(&series, &((long + 1.0)?.log()? * correction)?)
}

/// ln(1 + e^x) of each element, as [`crate::softplus`].
pub fn softplus(xs: &Tensor) -> Result<Tensor> {
    softplus_wide(&wide(xs)?)?.to_dtype(xs.dtype())
}

fn softplus_wide(x: &Tensor) -> Result<Tensor> {
    /// From it on the result rounds to x, in every type.
    const LARGE: f64 = 40.0;
    let is_below = x.lt(LARGE)?;
    let below = is_below.where_cond(x, &x.zeros_like()?)?;
    is_below.where_cond(&log1p_wide(&below.exp()?)?, x)
}

/// -ln(1 + e^-x) of each element, as [`crate::log_sigmoid`].
pub fn log_sigmoid(xs: &Tensor) -> Result<Tensor> {
    softplus_wide(&wide(xs)?.neg()?)?.neg()?.to_dtype(xs.dtype())
}

/// sqrt x of each element, as [`crate::sqrt`].
pub fn sqrt(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.sqrt()?.to_dtype(xs.dtype())
}

/// 1 / sqrt(x) of each element, as [`crate::rsqrt`].
pub fn rsqrt(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.sqrt()?.recip()?.to_dtype(xs.dtype())
}

/// tanh x of each element, as [`crate::tanh`].
pub fn tanh(xs: &Tensor) -> Result<Tensor> {
    wide(xs)?.tanh()?.to_dtype(xs.dtype())
}

/// x (1 + erf(x / sqrt(2))) / 2 of each element, as [`crate::gelu`].
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    // The gradient of candle's own is off by 1e-8.
    let x = from_lowest(&wide(xs)?)?;
    let share = ((&x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? * 0.5)? + 0.5;
    (x * share?)?.to_dtype(xs.dtype())
}

/// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 of each element, as [`crate::gelu_tanh`].
pub fn gelu_tanh(xs: &Tensor) -> Result<Tensor> {
    /// Where the share has long been 0 or 1; its cube does not overflow.
    const FAR: f64 = 100.0;
    let x = from_lowest(&wide(xs)?)?;
    let inner = x.clamp(-FAR, FAR)?;
    // 2 sqrt(2/pi).
    let z = ((&inner * ((inner.sqr()? * 0.044715)? + 1.0)?)? * 1.595_769_121_605_730_8)?;
    (x * candle_nn::ops::sigmoid(&z)?)?.to_dtype(xs.dtype())
}
