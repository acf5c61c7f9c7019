//! Elementwise functions of one or two inputs, and gradients.

use super::{Extent, Number, Op, Ready, Results, Shape};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::cuda;

/// Defines an op per line: its type, function, `_into` form, indices of inputs, and options.
macro_rules! functions {
    ($($Op:ident $name:ident $into:ident [$($at:literal),*] $($options:expr)?;)*) => {
        $(pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);
            const READ: &'static [Extent] = &[Extent::Whole; [$($at),*].len()];
            const WRITTEN: &'static [Extent] = &[Extent::Whole];

            fn on_cpu<E: Number>(_shape: Shape, _way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
                Ok(vec![evenkeel::$name($(&read[$at],)* $(&$options)?)?].into())
            }

            fn on_device<E: Number>(stream: &Stream, _shape: Shape, _way: usize) -> Result<impl Ready<E>> {
                let stream = stream.clone();
                Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
                    Ok(cuda::$into(&stream, $(read[$at].view(),)* written[0].view_mut(), $(&$options)?)?)
                })
            }
        })*
    };
}

functions! {
    Exp exp exp_into [0];
    Exp2 exp2 exp2_into [0];
    Expm1 expm1 expm1_into [0];
    ClampedExp clamped_exp clamped_exp_into [0] evenkeel::ClampedExp::default();
    Log log log_into [0];
    Log1p log1p log1p_into [0];
    Log2 log2 log2_into [0];
    ClampedLog clamped_log clamped_log_into [0] evenkeel::ClampedLog::default();
    Sqrt sqrt sqrt_into [0];
    Rsqrt rsqrt rsqrt_into [0];
    Reciprocal reciprocal reciprocal_into [0];
    SafeDiv safe_div safe_div_into [0, 1] evenkeel::SafeDiv::default();
    Sigmoid sigmoid sigmoid_into [0];
    Silu silu silu_into [0];
    Tanh tanh tanh_into [0];
    Erf erf erf_into [0];
    Gelu gelu gelu_into [0];
    GeluTanh gelu_tanh gelu_tanh_into [0];
    Softplus softplus softplus_into [0];
    LogSigmoid log_sigmoid log_sigmoid_into [0];
    LogAddExp log_add_exp log_add_exp_into [0, 1];
    Swiglu swiglu swiglu_into [0, 1];
    ExpBackward exp_backward exp_backward_into [0, 1];
    Exp2Backward exp2_backward exp2_backward_into [0, 1];
    Expm1Backward expm1_backward expm1_backward_into [0, 1];
    ClampedExpBackward clamped_exp_backward clamped_exp_backward_into [0, 1] evenkeel::ClampedExp::default();
    LogBackward log_backward log_backward_into [0, 1];
    Log1pBackward log1p_backward log1p_backward_into [0, 1];
    Log2Backward log2_backward log2_backward_into [0, 1];
    ClampedLogBackward clamped_log_backward clamped_log_backward_into [0, 1] evenkeel::ClampedLog::default();
    SqrtBackward sqrt_backward sqrt_backward_into [0, 1];
    RsqrtBackward rsqrt_backward rsqrt_backward_into [0, 1];
    ReciprocalBackward reciprocal_backward reciprocal_backward_into [0, 1];
    SigmoidBackward sigmoid_backward sigmoid_backward_into [0, 1];
    SiluBackward silu_backward silu_backward_into [0, 1];
    TanhBackward tanh_backward tanh_backward_into [0, 1];
    ErfBackward erf_backward erf_backward_into [0, 1];
    GeluBackward gelu_backward gelu_backward_into [0, 1];
    GeluTanhBackward gelu_tanh_backward gelu_tanh_backward_into [0, 1];
    SoftplusBackward softplus_backward softplus_backward_into [0, 1];
    LogSigmoidBackward log_sigmoid_backward log_sigmoid_backward_into [0, 1];
}

/// Gradients of both arguments of swiglu.
pub struct SwigluBackward;

impl Op for SwigluBackward {
    const NAME: &'static str = "swiglu_backward";
    const READ: &'static [Extent] = &[Extent::Whole; 3];
    const WRITTEN: &'static [Extent] = &[Extent::Whole; 2];

    fn on_cpu<E: Number>(_shape: Shape, _way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let (dgate, dup) = evenkeel::swiglu_backward(&read[0], &read[1], &read[2])?;
        Ok(vec![dgate, dup].into())
    }

    fn on_device<E: Number>(stream: &Stream, _shape: Shape, _way: usize) -> Result<impl Ready<E>> {
        let stream = stream.clone();
        Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
            let [gate, up, dy] = [0, 1, 2].map(|i| read[i].view());
            let (dgate, dup) = written.split_at_mut(1);
            Ok(cuda::swiglu_backward_into(&stream, gate, up, dy, dgate[0].view_mut(), dup[0].view_mut())?)
        })
    }
}
