//! Functions of single elements.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::inputs::Distribution;
use crate::peers::{Operands, Rten};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use evenkeel::reference::{self, Real};

/// Defines an op by its name, its functions in evenkeel, its inputs, rten's and candle's functions, and the
/// hand-written loop.
macro_rules! unary {
    ($($Op:ident $name:ident $into:ident $in_place:ident $inputs:ident rten($rten:expr) $candle:expr, $naive:expr;)*) => {$(
        pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);
            const INPUTS: Distribution = Distribution::$inputs;
            const SHAPES: &'static [Shape] = shapes::ELEMENTS;

            fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
                problem.row(problem.x(), row).iter().map(|&x| reference::$name(x).to_f64()).collect()
            }

            fn contenders<'a, E: Float>(
                problem: &'a Problem<E>,
                rten: Option<&'a Rten>,
            ) -> Result<Vec<Contender<'a, E>>> {
                let x = problem.x();
                let xs = problem.tensor(x)?;
                let also = xs.clone();
                let candle: fn(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> = $candle;
                let naive: fn(f32) -> f32 = $naive;
                let mut all = vec![
                    Contender::try_into("evenkeel", move |y| evenkeel::$into(x, y).map(drop)),
                    Contender::in_place(x, move |x| evenkeel::$in_place(x)),
                    Contender::allocating(move || evenkeel::$name(x)),
                    Contender::tensor("evenkeel", "guarded", move || Ok(evenkeel::candle::guarded::$name(&xs)?)),
                    Contender::tensor_in_place(x, problem.shape.0, move |xs| {
                        Ok(evenkeel::candle::guarded::$in_place(xs)?)
                    }),
                    Contender::tensor("candle", "tensor", move || candle(&also)),
                    Contender::into("naive", move |y| {
                        for (x, y) in x.iter().zip(y) {
                            *y = E::narrow(naive(x.single()));
                        }
                    }),
                ];
                let rten_has: Option<&str> = $rten;
                if let Some(name) = rten_has {
                    all.extend(Rten::contender(rten, name, problem, Operands::default())?);
                }
                Ok(all)
            }
        }
    )*};
}

unary! {
    Exp exp exp_into exp_in_place Normal rten(Some("exp")) |xs| xs.exp(), f32::exp;
    Log log log_into log_in_place Positive rten(None) |xs| xs.log(), f32::ln;
    Sigmoid sigmoid sigmoid_into sigmoid_in_place Normal rten(Some("sigmoid"))
        candle_nn::ops::sigmoid, |x| 1.0 / (1.0 + (-x).exp());
    Silu silu silu_into silu_in_place Normal rten(Some("silu")) |xs| xs.silu(), |x| x / (1.0 + (-x).exp());
    Tanh tanh tanh_into tanh_in_place Normal rten(Some("tanh")) |xs| xs.tanh(), f32::tanh;
    Erf erf erf_into erf_in_place Normal rten(Some("erf")) |xs| xs.erf(), candle_core::cpu::erf::erf_f32;
    Gelu gelu gelu_into gelu_in_place Normal rten(Some("gelu"))
        |xs| xs.gelu_erf(), |x| x * 0.5 * (1.0 + candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2));
}
