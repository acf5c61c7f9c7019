//! Gradients of elementwise functions: the derivative, rounded to the type, times dy. Each comment gives the
//! derivative.

use super::{erf, exp, exp2, reciprocal, round, rsqrt, sigmoid};
use evenkeel::Element;

fn times<E: Element>(derivative: f64, dy: E) -> E {
    E::from_wide(round::<E>(derivative) * dy.widen())
}

/// Derivative: 2 e^(-x^2) / sqrt(pi).
pub fn erf_backward<E: Element>(x: E, dy: E) -> E {
    let power = round::<E>((-round::<E>(x.widen() * x.widen())).exp());
    times(round::<E>(std::f64::consts::FRAC_2_SQRT_PI) * power, dy)
}

/// Derivative: e^x.
pub fn exp_backward<E: Element>(x: E, dy: E) -> E {
    times(exp(x).widen(), dy)
}

/// Derivative: 2^x ln 2.
pub fn exp2_backward<E: Element>(x: E, dy: E) -> E {
    times(exp2(x).widen() * round::<E>(std::f64::consts::LN_2), dy)
}

/// Derivative: e^x.
pub fn expm1_backward<E: Element>(x: E, dy: E) -> E {
    exp_backward(x, dy)
}

/// Derivative: (1 + erf(x / sqrt(2))) / 2 + x e^(-x^2/2) / sqrt(2 pi).
pub fn gelu_backward<E: Element>(x: E, dy: E) -> E {
    let share = round::<E>(1.0 + erf(E::from_wide(x.widen() / std::f64::consts::SQRT_2)).widen()) / 2.0;
    let power = round::<E>((round::<E>(x.widen() * x.widen()) / -2.0).exp());
    let density = round::<E>(power * round::<E>(0.3989422804014327));
    times(share + round::<E>(x.widen() * density), dy)
}

/// Derivative: `(1 + t) / 2 + x * (1 - t^2) * u / 2`. Here `c` is `sqrt(2 / pi)`,
/// `t` is `tanh(c * (x + 0.044715 * x^3))`, and `u` is `c * (1 + 0.134145 * x^2)`.
pub fn gelu_tanh_backward<E: Element>(x: E, dy: E) -> E {
    let root = round::<E>(0.7978845608028654);
    let inner = round::<E>(x.widen() + round::<E>(0.044715 * x.widen().powi(3)));
    let t = round::<E>(round::<E>(root * inner).tanh());
    let u = round::<E>(root * round::<E>(1.0 + round::<E>(0.134145 * x.widen().powi(2))));
    let rest = round::<E>(round::<E>(x.widen() / 2.0) * round::<E>(round::<E>(1.0 - round::<E>(t * t)) * u));
    times(round::<E>(1.0 + t) / 2.0 + rest, dy)
}

/// Derivative: 1 / x.
pub fn log_backward<E: Element>(x: E, dy: E) -> E {
    E::from_wide(dy.widen() / x.widen())
}

/// Derivative: 1 / (1 + x).
pub fn log1p_backward<E: Element>(x: E, dy: E) -> E {
    E::from_wide(dy.widen() / round::<E>(1.0 + x.widen()))
}

/// Derivative: 1 / (x ln 2).
pub fn log2_backward<E: Element>(x: E, dy: E) -> E {
    E::from_wide(dy.widen() / round::<E>(x.widen() * round::<E>(std::f64::consts::LN_2)))
}

/// Derivative: 1 - sigmoid x.
pub fn log_sigmoid_backward<E: Element>(x: E, dy: E) -> E {
    times(1.0 - sigmoid(x).widen(), dy)
}

/// Derivative: -(1 / x)^2.
pub fn reciprocal_backward<E: Element>(x: E, dy: E) -> E {
    let y = reciprocal(x).widen();
    times(-y * y, dy)
}

/// Derivative: -(1 / sqrt(x))^3 / 2.
pub fn rsqrt_backward<E: Element>(x: E, dy: E) -> E {
    let y = rsqrt(x).widen();
    times(round::<E>(y * y) * y / -2.0, dy)
}

/// Derivative: s (1 - s), where s is the sigmoid.
pub fn sigmoid_backward<E: Element>(x: E, dy: E) -> E {
    let s = sigmoid(x).widen();
    times(s * round::<E>(1.0 - s), dy)
}

/// Derivative: s (1 + x (1 - s)), where s is the sigmoid.
pub fn silu_backward<E: Element>(x: E, dy: E) -> E {
    let s = sigmoid(x).widen();
    times(s * round::<E>(1.0 + round::<E>(x.widen() * round::<E>(1.0 - s))), dy)
}

/// Derivative: e^x / (1 + e^x).
pub fn softplus_backward<E: Element>(x: E, dy: E) -> E {
    let power = round::<E>(x.widen().exp());
    times(power / round::<E>(1.0 + power), dy)
}

/// Derivative: 1 / (2 sqrt(x)).
pub fn sqrt_backward<E: Element>(x: E, dy: E) -> E {
    E::from_wide(dy.widen() / (2.0 * round::<E>(x.widen().sqrt())))
}

/// Derivative: 1 - tanh(x)^2.
pub fn tanh_backward<E: Element>(x: E, dy: E) -> E {
    let y = round::<E>(x.widen().tanh());
    times(1.0 - round::<E>(y * y), dy)
}

/// Derivative: e^x, or 0 where x was clamped.
pub fn clamped_exp_backward<E: Element>(x: E, dy: E, min: f64, max: f64) -> E {
    if (min..=max).contains(&x.widen()) { exp_backward(x, dy) } else { E::ZERO }
}

/// Derivative: 1 / x, or 0 below the floor.
pub fn clamped_log_backward<E: Element>(x: E, dy: E, floor: f64) -> E {
    if x.widen() >= floor { log_backward(x, dy) } else { E::ZERO }
}
