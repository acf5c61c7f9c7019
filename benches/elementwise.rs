//! Benchmarks of the elementwise functions and their gradients, against candle's functions.

use crate::Op;
use crate::support::{Race, Timed, gradient, numbers, shapes, tensor};
use candle_core::{Result, Tensor, Var};
use criterion::Criterion;
use evenkeel::candle::{composition, guarded};
use evenkeel::{Element, reference};
use std::f64::consts::{LN_2, LOG2_E};

/// Function of a tensor.
type Function = fn(&Tensor) -> Result<Tensor>;

/// Returns candle's own function, or the shortest composition of candle's functions. Returns `None` for ops that are
/// not listed here. For these, the benchmark times the op's function in [`composition`].
fn of_candle(op: &str) -> Option<Function> {
    Some(match op {
        "erf" => Tensor::erf,
        "exp" => Tensor::exp,
        "exp2" => |x| x.affine(LN_2, 0.0)?.exp(),
        "gelu" => Tensor::gelu_erf,
        "gelu_tanh" => Tensor::gelu,
        "log" => Tensor::log,
        "log2" => |x| x.log()?.affine(LOG2_E, 0.0),
        "reciprocal" => Tensor::recip,
        "rsqrt" => |x| x.sqrt()?.recip(),
        "sigmoid" => candle_nn::ops::sigmoid,
        "silu" => candle_nn::ops::silu,
        "sqrt" => Tensor::sqrt,
        "tanh" => Tensor::tanh,
        _ => return None,
    })
}

/// Returns the derivative, composed of candle's functions as in candle's autograd. Returns `None` for ops that are not
/// listed here. For these, the benchmark times the forward and the backward pass of candle's autograd.
fn derivative_of_candle(op: &str) -> Option<Function> {
    Some(match op {
        "erf_backward" => |x| x.sqr()?.neg()?.exp()?.affine(std::f64::consts::FRAC_2_SQRT_PI, 0.0),
        "exp_backward" => Tensor::exp,
        "exp2_backward" => |x| x.affine(LN_2, 0.0)?.exp()?.affine(LN_2, 0.0),
        "gelu_backward" => derivative_of_gelu,
        "gelu_tanh_backward" => derivative_of_gelu_tanh,
        "log_backward" => Tensor::recip,
        "log2_backward" => |x| x.recip()?.affine(LOG2_E, 0.0),
        "reciprocal_backward" => |x| x.sqr()?.recip()?.neg(),
        "rsqrt_backward" => |x| (x * x.sqrt()?)?.recip()?.affine(-0.5, 0.0),
        "sigmoid_backward" => |x| {
            let s = candle_nn::ops::sigmoid(x)?;
            &s * s.affine(-1.0, 1.0)?
        },
        "silu_backward" => |x| {
            let s = candle_nn::ops::sigmoid(x)?;
            &s * (x * s.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?
        },
        "tanh_backward" => |x| x.tanh()?.sqr()?.affine(-1.0, 1.0),
        _ => return None,
    })
}

/// Computes the derivative of gelu.
fn derivative_of_gelu(x: &Tensor) -> Result<Tensor> {
    let share = x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?;
    share + (x * x.sqr()?.affine(-0.5, 0.0)?.exp()?)?.affine(0.3989422804014327, 0.0)?
}

/// Computes the derivative of gelu_tanh.
fn derivative_of_gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let square = x.sqr()?;
    let tanh = (x * square.affine(0.035677408136300125, 0.7978845608028654)?)?.tanh()?;
    let inner = (x * square.affine(0.10703222440890037, 0.7978845608028654)?)?;
    tanh.affine(0.5, 0.5)? + (inner * tanh.sqr()?.affine(-0.5, 0.5)?)?
}

/// Converts a random number to an input of the op. Functions that need positive numbers get positive ones.
fn input(op: &str, x: f64) -> f64 {
    match op {
        "log" | "log2" => x.exp(),
        "log_backward"
        | "log1p_backward"
        | "log2_backward"
        | "reciprocal_backward"
        | "rsqrt_backward"
        | "sqrt_backward" => x.abs() + 0.1,
        _ => x,
    }
}

fn inputs<E: Timed>(op: &str, count: usize) -> Vec<E> {
    numbers::<E>(count).into_iter().map(|x| E::from_wide(input(op, x.widen()))).collect()
}

macro_rules! benchmarks {
    ($($name:ident $Op:ident $formula:literal [$into:ident $in_place:ident] $derivative:ident
        [$backward:ident $backward_into:ident $backward_in_place:ident];)*) => {
        $(
            fn $name<E: Timed>(c: &mut Criterion) {
                let theirs = of_candle(stringify!($name)).unwrap_or(composition::$name);
                for shape @ (rows, cols) in shapes() {
                    let x = inputs::<E>(stringify!($name), rows * cols);
                    let mut y = x.clone();
                    let exact = x[..cols].iter().map(|&x| reference::$name(x)).collect();
                    let xs = tensor(&x, shape);
                    Race::<E>::new(c, stringify!($name), shape, exact)
                        .slices(&mut y, |y| evenkeel::$into(&x, y).map(drop))
                        .tensors(|| Ok(guarded::$name(&xs)?), || theirs(&xs));
                }
            }

            fn $backward<E: Timed>(c: &mut Criterion) {
                let derivative = derivative_of_candle(stringify!($backward));
                for shape @ (rows, cols) in shapes() {
                    let x = inputs::<E>(stringify!($backward), rows * cols);
                    let mut dx = x.clone();
                    let dy = numbers::<E>(rows * cols);
                    let product =
                        |(&x, &dy): (&E, &E)| reference::$derivative(x) * <E as Element>::Exact::from(dy.widen());
                    let exact = x[..cols].iter().zip(&dy).map(product).collect();
                    let (xs, dys) = (Var::from_tensor(&tensor(&x, shape)).unwrap(), tensor(&dy, shape));
                    Race::<E>::new(c, stringify!($backward), shape, exact)
                        .slices(&mut dx, |dx| evenkeel::$backward_into(&x, &dy, dx).map(drop))
                        .candle(|| match derivative {
                            Some(derivative) => &dys * derivative(&xs.detach())?,
                            None => gradient(&xs, &dys, composition::$name),
                        });
                }
            }
        )*

        /// Benchmarks of all elementwise functions and their gradients.
        pub const OPS: &[Op] = &[$(
            (stringify!($name), |c| { each_dtype!(c, $name); }),
            (stringify!($backward), |c| { each_dtype!(c, $backward); }),
        )*];
    };
}
evenkeel::for_each_elementwise!(benchmarks);
