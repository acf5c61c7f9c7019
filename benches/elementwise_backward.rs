//! Benchmark of the gradients of elementwise functions against compositions of candle's ops. Candle's autograd computes
//! gradients by such compositions too.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use candle_core::{Result, Tensor};
use criterion::Criterion;
use evenkeel::{Element, reference};

/// Times one gradient. If `$shift` is positive, `$x` is replaced by its magnitude plus `$shift`, for functions that
/// need positive numbers.
macro_rules! race {
    ($c:expr, $E:ty, $name:literal, $into:ident, $derivative:ident, $shift:literal, $composed:expr) => {
        for shape @ (rows, cols) in shapes() {
            let raised = |x: $E| <$E>::from_wide(if $shift > 0.0 { x.widen().abs() + $shift } else { x.widen() });
            let x: Vec<$E> = numbers::<$E>(rows * cols).into_iter().map(raised).collect();
            let mut dx = x.clone();
            let dy = numbers::<$E>(rows * cols);
            let product = |(&x, &dy): (&$E, &$E)| reference::$derivative(x) * <$E as Element>::Exact::from(dy.widen());
            let exact = x[..cols].iter().zip(&dy).map(product).collect();
            let (xs, dys) = (tensor(&x, shape), tensor(&dy, shape));
            let composed: fn(&Tensor) -> Result<Tensor> = $composed;
            Race::<$E>::new($c, $name, shape, exact)
                .slices(&mut dx, |dx| evenkeel::$into(&x, &dy, dx).map(drop))
                .candle(|| &dys * composed(&xs)?);
        }
    };
}

fn exp2(x: &Tensor) -> Result<Tensor> {
    x.affine(std::f64::consts::LN_2, 0.0)?.exp()?.affine(std::f64::consts::LN_2, 0.0)
}

fn log2(x: &Tensor) -> Result<Tensor> {
    x.recip()?.affine(std::f64::consts::LOG2_E, 0.0)
}

fn reciprocal(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.recip()?.neg()
}

fn rsqrt(x: &Tensor) -> Result<Tensor> {
    (x * x.sqrt()?)?.recip()?.affine(-0.5, 0.0)
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    let s = candle_nn::ops::sigmoid(x)?;
    &s * s.affine(-1.0, 1.0)?
}

fn silu(x: &Tensor) -> Result<Tensor> {
    let s = candle_nn::ops::sigmoid(x)?;
    &s * (x * s.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?
}

fn tanh(x: &Tensor) -> Result<Tensor> {
    x.tanh()?.sqr()?.affine(-1.0, 1.0)
}

fn erf(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.neg()?.exp()?.affine(std::f64::consts::FRAC_2_SQRT_PI, 0.0)
}

fn gelu(x: &Tensor) -> Result<Tensor> {
    let share = x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?;
    share + (x * x.sqr()?.affine(-0.5, 0.0)?.exp()?)?.affine(0.3989422804014327, 0.0)?
}

fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let square = x.sqr()?;
    let tanh = (x * square.affine(0.035677408136300125, 0.7978845608028654)?)?.tanh()?;
    let inner = (x * square.affine(0.10703222440890037, 0.7978845608028654)?)?;
    tanh.affine(0.5, 0.5)? + (inner * tanh.sqr()?.affine(-0.5, 0.5)?)?
}

fn bench<E: Timed>(c: &mut Criterion) {
    race!(c, E, "exp_backward", exp_backward_into, exp_derivative, 0.0, Tensor::exp);
    race!(c, E, "exp2_backward", exp2_backward_into, exp2_derivative, 0.0, exp2);
    race!(c, E, "log_backward", log_backward_into, log_derivative, 0.1, Tensor::recip);
    race!(c, E, "log2_backward", log2_backward_into, log2_derivative, 0.1, log2);
    race!(c, E, "reciprocal_backward", reciprocal_backward_into, reciprocal_derivative, 0.1, reciprocal);
    race!(c, E, "rsqrt_backward", rsqrt_backward_into, rsqrt_derivative, 0.1, rsqrt);
    race!(c, E, "sigmoid_backward", sigmoid_backward_into, sigmoid_derivative, 0.0, sigmoid);
    race!(c, E, "silu_backward", silu_backward_into, silu_derivative, 0.0, silu);
    race!(c, E, "tanh_backward", tanh_backward_into, tanh_derivative, 0.0, tanh);
    race!(c, E, "erf_backward", erf_backward_into, erf_derivative, 0.0, erf);
    race!(c, E, "gelu_backward", gelu_backward_into, gelu_derivative, 0.0, gelu);
    race!(c, E, "gelu_tanh_backward", gelu_tanh_backward_into, gelu_tanh_derivative, 0.0, gelu_tanh);
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
