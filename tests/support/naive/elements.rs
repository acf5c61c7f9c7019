//! Functions of one or two elements.

use super::round;
use evenkeel::Element;

/// Computes e^x as a power of two.
pub fn exp<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen() * std::f64::consts::LOG2_E).exp2())
}

/// Computes ln x from the binary logarithm.
pub fn log<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen().log2()) * round::<E>(std::f64::consts::LN_2))
}

/// Computes 2^x as a power of e.
pub fn exp2<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen() * round::<E>(std::f64::consts::LN_2)).exp())
}

/// Computes log2 x from the natural logarithm.
pub fn log2<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen().ln()) * round::<E>(std::f64::consts::LOG2_E))
}

/// Computes 1 / x from the logarithm.
pub fn reciprocal<E: Element>(x: E) -> E {
    E::from_wide((-round::<E>(x.widen().abs().ln())).exp().copysign(x.widen()))
}

/// Computes 1 / (1 + e^-x).
pub fn sigmoid<E: Element>(x: E) -> E {
    E::from_wide(1.0 / round::<E>(1.0 + round::<E>((-x.widen()).exp())))
}

/// Computes x / (1 + e^-x).
pub fn silu<E: Element>(x: E) -> E {
    E::from_wide(x.widen() / round::<E>(1.0 + round::<E>((-x.widen()).exp())))
}

/// Computes e^x - 1.
pub fn expm1<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen().exp()) - 1.0)
}

/// Computes ln(1 + x).
pub fn log1p<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(1.0 + x.widen()).ln())
}

/// Computes (e^2x - 1) / (e^2x + 1).
pub fn tanh<E: Element>(x: E) -> E {
    let e = round::<E>((2.0 * x.widen()).exp());
    E::from_wide(round::<E>(e - 1.0) / round::<E>(e + 1.0))
}

/// Computes ln(sigmoid x).
pub fn log_sigmoid<E: Element>(x: E) -> E {
    E::from_wide(sigmoid(x).widen().ln())
}

/// Computes ln(1 + e^x).
pub fn softplus<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(1.0 + round::<E>(x.widen().exp())).ln())
}

/// Computes sqrt(x) from the logarithm.
pub fn sqrt<E: Element>(x: E) -> E {
    E::from_wide((round::<E>(x.widen().ln()) / 2.0).exp())
}

/// Computes 1 / sqrt(x).
pub fn rsqrt<E: Element>(x: E) -> E {
    E::from_wide(1.0 / round::<E>(x.widen().sqrt()))
}

/// Computes erf x by formula 7.1.26 of Abramowitz and Stegun, 1964.
pub fn erf<E: Element>(x: E) -> E {
    let a = x.widen().abs();
    let t = round::<E>(1.0 / (1.0 + 0.3275911 * a));
    let c = [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429];
    let sum = c.iter().rev().fold(0.0, |sum, c| round::<E>((sum + c) * t));
    E::from_wide(round::<E>(1.0 - sum * (-a * a).exp()).copysign(x.widen()))
}

/// Computes x (1 + erf(x / sqrt(2))) / 2.
pub fn gelu<E: Element>(x: E) -> E {
    let share = 1.0 + erf(E::from_wide(x.widen() / std::f64::consts::SQRT_2)).widen();
    E::from_wide(round::<E>(x.widen() / 2.0) * round::<E>(share))
}

/// Computes x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
pub fn gelu_tanh<E: Element>(x: E) -> E {
    let inner = round::<E>(x.widen() + round::<E>(0.044715 * x.widen().powi(3)));
    let tanh = round::<E>((round::<E>(0.7978845608028654) * inner).tanh());
    E::from_wide(round::<E>(x.widen() / 2.0) * round::<E>(1.0 + tanh))
}

/// Computes e^x of the clamped x.
pub fn clamped_exp<E: Element>(x: E, min: f64, max: f64) -> E {
    exp(E::from_wide(x.widen().clamp(min, max)))
}

/// Computes ln max(x, floor).
pub fn clamped_log<E: Element>(x: E, floor: f64) -> E {
    log(E::from_wide(x.widen().max(floor)))
}

/// Computes ln(e^a + e^b).
pub fn log_add_exp<E: Element>(a: E, b: E) -> E {
    E::from_wide(round::<E>(round::<E>(a.widen().exp()) + round::<E>(b.widen().exp())).ln())
}

/// Computes x / (d + eps).
pub fn safe_div<E: Element>(x: E, d: E, eps: f64) -> E {
    E::from_wide(x.widen() / round::<E>(d.widen() + round::<E>(eps)))
}

/// Computes `silu(gate) * up`, and rounds both `silu(gate)` and the product.
pub fn swiglu<E: Element>(gate: E, up: E) -> E {
    E::from_wide(silu(gate).widen() * up.widen())
}
