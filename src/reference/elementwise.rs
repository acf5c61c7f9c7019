//! Functions of one element and their derivatives.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns e^min(max(x, min), max), the unrounded result of [`clamped_exp`](crate::clamped_exp()).
///
/// ```
/// assert_eq!(evenkeel::reference::clamped_exp(7.0f32, -1.0, 1.0), 1f64.exp());
/// ```
pub fn clamped_exp<E: Element>(x: E, min: f64, max: f64) -> E::Exact {
    E::Exact::from(if x.widen().is_nan() { f64::NAN } else { x.widen().clamp(min, max) }).exp()
}

/// Returns the unrounded derivative of [`clamped_exp`]: e^x if x is from `min` to `max`, otherwise 0.
pub fn clamped_exp_derivative<E: Element>(x: E, min: f64, max: f64) -> E::Exact {
    let x = x.widen();
    if x < min || x > max { E::Exact::from(0.0) } else { E::Exact::from(x).exp() }
}

/// Returns ln max(x, floor), the unrounded result of [`clamped_log`](crate::clamped_log()).
///
/// ```
/// assert_eq!(evenkeel::reference::clamped_log(-7.0f32, 0.5), 0.5f64.ln());
/// ```
pub fn clamped_log<E: Element>(x: E, floor: f64) -> E::Exact {
    E::Exact::from(if x.widen() < floor { floor } else { x.widen() }).ln()
}

/// Returns the unrounded derivative of [`clamped_log`]: 0 if x is below `floor`, otherwise 1 / x.
pub fn clamped_log_derivative<E: Element>(x: E, floor: f64) -> E::Exact {
    let x = x.widen();
    if x < floor { E::Exact::from(0.0) } else { E::Exact::from(1.0) / E::Exact::from(x) }
}

/// Returns erf x, the unrounded result of [`erf`](crate::erf()).
///
/// ```
/// assert_eq!(evenkeel::reference::erf(-10.0f32), -1.0);
/// ```
pub fn erf<E: Element>(x: E) -> E::Exact {
    E::Exact::from_double_double(DoubleDouble::from(x.widen()).erf())
}

/// Returns the unrounded derivative of [`erf`], 2/sqrt(pi) e^(-x^2).
///
/// [`erf_backward`](crate::erf_backward()) multiplies gradients by this derivative.
pub fn erf_derivative<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    let two = E::Exact::from(2.0);
    // 2 / sqrt(pi) is computed as 4 / sqrt(2 * (2 pi)), because `DoubleDouble` has 2 pi as a constant.
    let factor = two * two / (two * E::Exact::from_double_double(DoubleDouble::two_pi())).sqrt();
    factor * (-(x * x)).exp()
}

/// Returns e^x, the unrounded result of [`exp`](crate::exp()).
///
/// ```
/// assert_eq!(evenkeel::reference::exp(0.5f32), 0.5f64.exp());
/// ```
pub fn exp<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}

/// Returns the unrounded derivative of [`exp`], e^x.
///
/// [`exp_backward`](crate::exp_backward()) multiplies gradients by this derivative.
pub fn exp_derivative<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}

/// Returns 2^x, the unrounded result of [`exp2`](crate::exp2()).
///
/// ```
/// assert_eq!(evenkeel::reference::exp2(0.5f32), std::f64::consts::SQRT_2);
/// ```
pub fn exp2<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp2()
}

/// Returns the unrounded derivative of [`exp2`], 2^x ln 2.
///
/// [`exp2_backward`](crate::exp2_backward()) multiplies gradients by this derivative.
pub fn exp2_derivative<E: Element>(x: E) -> E::Exact {
    exp2(x) * E::Exact::from(2.0).ln()
}

/// Returns e^x - 1, the unrounded result of [`expm1`](crate::expm1()).
///
/// ```
/// assert_eq!(evenkeel::reference::expm1(0.5f32), 0.5f64.exp_m1());
/// ```
pub fn expm1<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp_m1()
}

/// Returns the unrounded derivative of [`expm1`], e^x.
///
/// [`expm1_backward`](crate::expm1_backward()) multiplies gradients by this derivative.
pub fn expm1_derivative<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).exp()
}

/// Returns x (1 + erf(x / sqrt(2))) / 2, the unrounded result of [`gelu`](crate::gelu()).
///
/// ```
/// assert_eq!(evenkeel::reference::gelu(100.0f32), 100.0);
/// ```
pub fn gelu<E: Element>(x: E) -> E::Exact {
    let x = DoubleDouble::from(x.widen());
    // At -inf, the product below would be -inf * 0. The limit is -0.
    if x == DoubleDouble::from(f64::NEG_INFINITY) {
        return E::Exact::from(-0.0);
    }
    E::Exact::from_double_double(x * x.normal_cdf())
}

/// Returns the unrounded derivative of [`gelu`]: the cumulative distribution function of the standard normal
/// distribution, plus x times the density.
///
/// [`gelu_backward`](crate::gelu_backward()) multiplies gradients by this derivative.
pub fn gelu_derivative<E: Element>(x: E) -> E::Exact {
    // At infinities, a product below would be an infinity times 0, which is NaN. The derivative tends to 0 at -inf and
    // to 1 at +inf.
    if x.widen().is_infinite() {
        return E::Exact::from(if x.widen() > 0.0 { 1.0 } else { 0.0 });
    }
    let x = DoubleDouble::from(x.widen());
    E::Exact::from_double_double(x.normal_cdf() + x * x.normal_density())
}

/// Returns x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, the unrounded result of [`gelu_tanh`](crate::gelu_tanh()).
///
/// ```
/// assert_eq!(evenkeel::reference::gelu_tanh(100.0f32), 100.0);
/// ```
pub fn gelu_tanh<E: Element>(x: E) -> E::Exact {
    let x = DoubleDouble::from(x.widen());
    if x == DoubleDouble::from(f64::NEG_INFINITY) {
        return E::Exact::from(-0.0);
    }
    // Computes (1 + tanh z) / 2 as the logistic function of 2z, which does not cancel.
    let cubic = DoubleDouble::from(44_715.0) / DoubleDouble::from(1_000_000.0);
    let derivative = DoubleDouble::from(4.0) / DoubleDouble::two_pi().sqrt();
    E::Exact::from_double_double(x * sigmoid_of(derivative * (x + cubic * x * x * x)))
}

/// Returns the unrounded derivative of [`gelu_tanh`], `s + x * z' * s * (1 - s)` with `s = 1 / (1 + e^-z)` and
/// `z = 2 * sqrt(2/pi) * (x + 0.044715 * x^3)`. z' is the derivative of z.
///
/// [`gelu_tanh_backward`](crate::gelu_tanh_backward()) multiplies gradients by this derivative.
pub fn gelu_tanh_derivative<E: Element>(x: E) -> E::Exact {
    if x.widen().is_infinite() {
        return E::Exact::from(if x.widen() > 0.0 { 1.0 } else { 0.0 });
    }
    let x = DoubleDouble::from(x.widen());
    let cubic = DoubleDouble::from(44_715.0) / DoubleDouble::from(1_000_000.0);
    let derivative = DoubleDouble::from(4.0) / DoubleDouble::two_pi().sqrt();
    let z = derivative * (x + cubic * x * x * x);
    let of_z = derivative * (DoubleDouble::from(1.0) + DoubleDouble::from(3.0) * cubic * x * x);
    E::Exact::from_double_double(sigmoid_of(z) + x * of_z * sigmoid_of(z) * sigmoid_of(-z))
}

/// Returns ln x, the unrounded result of [`log`](crate::log()).
///
/// ```
/// assert_eq!(evenkeel::reference::log(0.5f32), -std::f64::consts::LN_2);
/// ```
pub fn log<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).ln()
}

/// Returns the unrounded derivative of [`log`], 1 / x.
///
/// [`log_backward`](crate::log_backward()) multiplies gradients by this derivative.
pub fn log_derivative<E: Element>(x: E) -> E::Exact {
    // At +0 and -0, returns the limit as x falls to 0 from above.
    match x.widen() {
        below if below < 0.0 => E::Exact::from(f64::NAN),
        0.0 => E::Exact::from(f64::INFINITY),
        x => E::Exact::from(1.0) / E::Exact::from(x),
    }
}

/// Returns ln(1 + x), the unrounded result of [`log1p`](crate::log1p()).
///
/// ```
/// assert_eq!(evenkeel::reference::log1p(0.5f32), 0.5f64.ln_1p());
/// ```
pub fn log1p<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).ln_1p()
}

/// Returns the unrounded derivative of [`log1p`], 1 / (1 + x).
///
/// [`log1p_backward`](crate::log1p_backward()) multiplies gradients by this derivative.
pub fn log1p_derivative<E: Element>(x: E) -> E::Exact {
    let d = E::Exact::from(1.0) + E::Exact::from(x.widen());
    if d < E::Exact::from(0.0) { E::Exact::from(f64::NAN) } else { E::Exact::from(1.0) / d }
}

/// Returns log2 x, the unrounded result of [`log2`](crate::log2()).
///
/// ```
/// assert_eq!(evenkeel::reference::log2(0.125f32), -3.0);
/// ```
pub fn log2<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).log2()
}

/// Returns the unrounded derivative of [`log2`], 1 / (x ln 2).
///
/// [`log2_backward`](crate::log2_backward()) multiplies gradients by this derivative.
pub fn log2_derivative<E: Element>(x: E) -> E::Exact {
    // At +0 and -0, returns the limit as x falls to 0 from above.
    match x.widen() {
        below if below < 0.0 => E::Exact::from(f64::NAN),
        0.0 => E::Exact::from(f64::INFINITY),
        x => E::Exact::from(1.0) / (E::Exact::from(x) * E::Exact::from(2.0).ln()),
    }
}

/// Returns -ln(1 + e^-x), the unrounded result of [`log_sigmoid`](crate::log_sigmoid()).
///
/// ```
/// assert_eq!(evenkeel::reference::log_sigmoid(-800.0f32), -800.0);
/// ```
pub fn log_sigmoid<E: Element>(x: E) -> E::Exact {
    log_sigmoid_of(E::Exact::from(x.widen()))
}

/// Computes [`log_sigmoid`] of a [`Real`] number.
pub fn log_sigmoid_of<R: Real>(x: R) -> R {
    -softplus_of(-x)
}

/// Returns the unrounded derivative of [`log_sigmoid`], 1 / (1 + e^x).
///
/// [`log_sigmoid_backward`](crate::log_sigmoid_backward()) multiplies gradients by this derivative.
pub fn log_sigmoid_derivative<E: Element>(x: E) -> E::Exact {
    sigmoid_of(-E::Exact::from(x.widen()))
}

/// Returns 1 / x, the unrounded result of [`reciprocal`](crate::reciprocal()).
///
/// ```
/// assert_eq!(evenkeel::reference::reciprocal(-4.0f32), -0.25);
/// ```
pub fn reciprocal<E: Element>(x: E) -> E::Exact {
    E::Exact::from(1.0) / E::Exact::from(x.widen())
}

/// Returns the unrounded derivative of [`reciprocal`], -1 / x^2.
///
/// [`reciprocal_backward`](crate::reciprocal_backward()) multiplies gradients by this derivative.
pub fn reciprocal_derivative<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    E::Exact::from(-1.0) / (x * x)
}

/// Returns 1 / sqrt(x), the unrounded result of [`rsqrt`](crate::rsqrt()).
///
/// ```
/// assert_eq!(evenkeel::reference::rsqrt(4.0f32), 0.5);
/// ```
pub fn rsqrt<E: Element>(x: E) -> E::Exact {
    E::Exact::from(1.0) / E::Exact::from(x.widen()).sqrt()
}

/// Returns the unrounded derivative of [`rsqrt`], -1/2 x^(-3/2).
///
/// [`rsqrt_backward`](crate::rsqrt_backward()) multiplies gradients by this derivative.
pub fn rsqrt_derivative<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    E::Exact::from(-0.5) / (x * x.sqrt())
}

/// Returns 1 / (1 + e^-x), the unrounded result of [`sigmoid`](crate::sigmoid()).
///
/// ```
/// assert_eq!(evenkeel::reference::sigmoid(-90.0f32), (-90.0f64).exp());
/// ```
pub fn sigmoid<E: Element>(x: E) -> E::Exact {
    sigmoid_of(E::Exact::from(x.widen()))
}

/// Computes [`sigmoid`] of a [`Real`] number.
pub fn sigmoid_of<R: Real>(x: R) -> R {
    let one = R::from(1.0);
    // e^-|x| cannot overflow.
    let t = (-x.abs()).exp();
    if x < R::from(0.0) { t / (one + t) } else { one / (one + t) }
}

/// Returns the unrounded derivative of [`sigmoid`], `s * (1 - s)` with `s = 1 / (1 + e^-x)`.
///
/// [`sigmoid_backward`](crate::sigmoid_backward()) multiplies gradients by this derivative.
pub fn sigmoid_derivative<E: Element>(x: E) -> E::Exact {
    let x = E::Exact::from(x.widen());
    sigmoid_of(x) * sigmoid_of(-x)
}

/// Returns x / (1 + e^-x), the unrounded result of [`silu`](crate::silu()).
///
/// ```
/// assert_eq!(evenkeel::reference::silu(0.0f32), 0.0);
/// ```
pub fn silu<E: Element>(x: E) -> E::Exact {
    silu_of(E::Exact::from(x.widen()))
}

/// Computes [`silu`] of a [`Real`] number.
pub fn silu_of<R: Real>(x: R) -> R {
    // At -inf, the product below would be -inf * 0. The limit is -0.
    if x == R::from(f64::NEG_INFINITY) {
        return R::from(-0.0);
    }
    x * sigmoid_of(x)
}

/// Returns the unrounded derivative of [`silu`], `s + x * s * (1 - s)` with `s = 1 / (1 + e^-x)`.
///
/// [`silu_backward`](crate::silu_backward()) multiplies gradients by this derivative.
pub fn silu_derivative<E: Element>(x: E) -> E::Exact {
    // At infinities, a product below would be an infinity times 0, which is NaN. The derivative tends to 0 at -inf and
    // to 1 at +inf.
    if x.widen().is_infinite() {
        return E::Exact::from(if x.widen() > 0.0 { 1.0 } else { 0.0 });
    }
    let x = E::Exact::from(x.widen());
    sigmoid_of(x) + x * sigmoid_of(x) * sigmoid_of(-x)
}

/// Returns ln(1 + e^x), the unrounded result of [`softplus`](crate::softplus()).
///
/// ```
/// assert_eq!(evenkeel::reference::softplus(800.0f32), 800.0);
/// ```
pub fn softplus<E: Element>(x: E) -> E::Exact {
    softplus_of(E::Exact::from(x.widen()))
}

/// Computes [`softplus`] of a [`Real`] number.
pub fn softplus_of<R: Real>(x: R) -> R {
    // e^-|x| cannot overflow.
    let log = (-x.abs()).exp().ln_1p();
    if x > R::from(0.0) { x + log } else { log }
}

/// Returns the unrounded derivative of [`softplus`], 1 / (1 + e^-x).
///
/// [`softplus_backward`](crate::softplus_backward()) multiplies gradients by this derivative.
pub fn softplus_derivative<E: Element>(x: E) -> E::Exact {
    sigmoid_of(E::Exact::from(x.widen()))
}

/// Returns sqrt(x), the unrounded result of [`sqrt`](crate::sqrt()).
///
/// ```
/// assert_eq!(evenkeel::reference::sqrt(2.0f32), 2f64.sqrt());
/// ```
pub fn sqrt<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).sqrt()
}

/// Returns the unrounded derivative of [`sqrt`], 1 / (2 sqrt x).
///
/// [`sqrt_backward`](crate::sqrt_backward()) multiplies gradients by this derivative.
pub fn sqrt_derivative<E: Element>(x: E) -> E::Exact {
    // At +0 and -0, returns the limit as x falls to 0 from above.
    match x.widen() {
        0.0 => E::Exact::from(f64::INFINITY),
        x => E::Exact::from(0.5) / E::Exact::from(x).sqrt(),
    }
}

/// Returns tanh x, the unrounded result of [`tanh`](crate::tanh()).
///
/// ```
/// assert_eq!(evenkeel::reference::tanh(0.5f32), 0.5f64.tanh());
/// ```
pub fn tanh<E: Element>(x: E) -> E::Exact {
    E::Exact::from(x.widen()).tanh()
}

/// Returns the unrounded derivative of [`tanh`], 1 - tanh(x)^2.
///
/// [`tanh_backward`](crate::tanh_backward()) multiplies gradients by this derivative.
pub fn tanh_derivative<E: Element>(x: E) -> E::Exact {
    // 1 - tanh^2 = 4 / (e^x + e^-x)^2, computed from e^-|x|, which cannot overflow.
    let t = (-E::Exact::from(x.widen()).abs()).exp();
    let share = E::Exact::from(2.0) * t / (E::Exact::from(1.0) + t * t);
    share * share
}
