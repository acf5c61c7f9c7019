//! Elementwise ops on one or two tensors. There are no CUDA kernels for their gradients, so compositions are used where
//! candle tracks gradients.

#![forbid(unsafe_code)]

use super::is_taken;
use super::kernel::{View, each_type, untracked, written};
use crate::candle::composition;
use crate::cuda::elementwise::{Function, apply};
use crate::ops::{clamped_exp::ClampedExp, clamped_log::ClampedLog, safe_div::SafeDiv};
use candle_core::{Result, Tensor};

/// Runs the function's kernel over tensors of the same shape and type.
fn run(name: &'static str, function: Function, xs: &Tensor, other: Option<(&'static str, &Tensor)>) -> Result<Tensor> {
    let argument = other.map(|(argument, _)| argument);
    let forward = |args: &[View<'_>]| {
        let x = args[0];
        let y = each_type!(name, x.dtype(), E => {
            let other = args.get(1).map(|other| other.elements::<E>(name)).transpose()?;
            let (elements, other) = (x.elements::<E>(name)?, argument.zip(other));
            written(&x, x.shape().elem_count(), |stream, y| apply(stream, &function, elements, other, y))
        })?;
        Ok((y, x.shape().clone()))
    };
    match other {
        Some((_, other)) => untracked(name, &[xs, other], forward),
        None => untracked(name, &[xs], forward),
    }
}

macro_rules! of_one {
    ($($name:ident $Function:ident;)*) => {$(
        pub fn $name(xs: &Tensor) -> Result<Tensor> {
            if !is_taken(xs) || xs.track_op() {
                return composition::$name(xs);
            }
            run(stringify!($name), Function::$Function, xs, None)
        }
    )*};
}

of_one! {
    erf Erf;
    exp Exp;
    exp2 Exp2;
    expm1 Expm1;
    gelu Gelu;
    gelu_tanh GeluTanh;
    log Log;
    log1p Log1p;
    log2 Log2;
    log_sigmoid LogSigmoid;
    reciprocal Reciprocal;
    rsqrt Rsqrt;
    sigmoid Sigmoid;
    silu Silu;
    softplus Softplus;
    sqrt Sqrt;
    tanh Tanh;
}

pub fn clamped_exp(xs: &Tensor, options: &ClampedExp) -> Result<Tensor> {
    if !is_taken(xs) || xs.track_op() {
        return composition::clamped_exp(xs, options);
    }
    run("clamped_exp", Function::ClampedExp(*options), xs, None)
}

pub fn clamped_log(xs: &Tensor, options: &ClampedLog) -> Result<Tensor> {
    if !is_taken(xs) || xs.track_op() {
        return composition::clamped_log(xs, options);
    }
    run("clamped_log", Function::ClampedLog(*options), xs, None)
}

pub fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !is_taken(a) || a.track_op() || b.track_op() {
        return composition::log_add_exp(a, b);
    }
    run("log_add_exp", Function::LogAddExp, a, Some(("b", b)))
}

pub fn safe_div(xs: &Tensor, d: &Tensor, options: &SafeDiv) -> Result<Tensor> {
    if !is_taken(xs) || xs.track_op() || d.track_op() {
        return composition::safe_div(xs, d, options);
    }
    run("safe_div", Function::SafeDiv(*options), xs, Some(("d", d)))
}
