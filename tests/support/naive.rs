//! The formulas as one writes them down, every step rounded to the storage type: what hostile inputs must break.

use evenkeel::Element;

/// A number that is rounded to the type.
fn round<E: Element>(value: f64) -> f64 {
    E::from_wide(value).widen()
}

/// e^x / sum e^x.
pub fn softmax<E: Element>(x: &[E]) -> Vec<E> {
    let exps: Vec<f64> = x.iter().map(|x| round::<E>(x.widen().exp())).collect();
    let sum = exps.iter().fold(0.0, |sum, e| round::<E>(sum + e));
    exps.iter().map(|e| E::from_wide(e / sum)).collect()
}

/// ln(softmax).
pub fn log_softmax<E: Element>(x: &[E]) -> Vec<E> {
    softmax(x).into_iter().map(|p| E::from_wide(p.widen().ln())).collect()
}

/// ln sum e^x.
pub fn logsumexp<E: Element>(x: &[E]) -> E {
    E::from_wide(x.iter().fold(0.0, |sum, x| round::<E>(sum + round::<E>(x.widen().exp()))).ln())
}

/// y (dy - sum y dy).
pub fn softmax_backward<E: Element>(x: &[E], dy: &[E]) -> Vec<E> {
    let y = softmax(x);
    let product = |(y, dy): (&E, &E)| round::<E>(y.widen() * dy.widen());
    let mean = y.iter().zip(dy).map(product).fold(0.0, |sum, p| round::<E>(sum + p));
    let gradient = |(y, dy): (&E, &E)| E::from_wide(y.widen() * round::<E>(dy.widen() - mean));
    y.iter().zip(dy).map(gradient).collect()
}

/// dy - softmax sum dy.
pub fn log_softmax_backward<E: Element>(x: &[E], dy: &[E]) -> Vec<E> {
    let sum = dy.iter().fold(0.0, |sum, dy| round::<E>(sum + dy.widen()));
    let gradient = |(y, dy): (&E, &E)| E::from_wide(dy.widen() - round::<E>(y.widen() * sum));
    softmax(x).iter().zip(dy).map(gradient).collect()
}

/// x / sqrt(mean x^2 + eps).
pub fn rms_norm<E: Element>(x: &[E], eps: f64) -> Vec<E> {
    let squares = x.iter().fold(0.0, |sum, x| round::<E>(sum + round::<E>(x.widen() * x.widen())));
    let root = round::<E>(round::<E>(round::<E>(squares / x.len() as f64) + eps).sqrt());
    x.iter().map(|x| E::from_wide(x.widen() / root)).collect()
}

/// x / max(sqrt(sum x^2), eps).
pub fn l2_normalize<E: Element>(x: &[E], eps: f64) -> Vec<E> {
    let squares = x.iter().fold(0.0, |sum, x| round::<E>(sum + round::<E>(x.widen() * x.widen())));
    let norm = round::<E>(squares.sqrt()).max(round::<E>(eps));
    x.iter().map(|x| E::from_wide(x.widen() / norm)).collect()
}

/// (dy - n mean(dy n)) / rms.
pub fn rms_norm_backward<E: Element>(x: &[E], dy: &[E], eps: f64) -> Vec<E> {
    let squares = x.iter().fold(0.0, |sum, x| round::<E>(sum + round::<E>(x.widen() * x.widen())));
    let root = round::<E>(round::<E>(round::<E>(squares / x.len() as f64) + eps).sqrt());
    gradient(&x.iter().map(|x| round::<E>(x.widen() / root)).collect::<Vec<_>>(), dy, root, false)
}

/// (dy - mean dy - n mean(dy n)) / deviation.
pub fn layer_norm_backward<E: Element>(x: &[E], dy: &[E], eps: f64) -> Vec<E> {
    let n = x.len() as f64;
    let mean = round::<E>(x.iter().fold(0.0, |sum, x| round::<E>(sum + x.widen())) / n);
    let squares = x.iter().fold(0.0, |sum, x| round::<E>(sum + round::<E>(x.widen() * x.widen())));
    let root = round::<E>(round::<E>(round::<E>(round::<E>(squares / n) - round::<E>(mean * mean)) + eps).sqrt());
    gradient(&x.iter().map(|x| round::<E>(round::<E>(x.widen() - mean) / root)).collect::<Vec<_>>(), dy, root, true)
}

fn gradient<E: Element>(n: &[f64], dy: &[E], root: f64, centred: bool) -> Vec<E> {
    let mean_of = |terms: &mut dyn Iterator<Item = f64>| {
        round::<E>(terms.fold(0.0, |sum, term| round::<E>(sum + round::<E>(term))) / n.len() as f64)
    };
    let along = mean_of(&mut n.iter().zip(dy).map(|(n, dy)| n * dy.widen()));
    let mean = if centred { mean_of(&mut dy.iter().map(|dy| dy.widen())) } else { 0.0 };
    let dx = |(n, dy): (&f64, &E)| round::<E>(round::<E>(dy.widen() - mean) - round::<E>(n * along)) / root;
    n.iter().zip(dy).map(|pair| E::from_wide(dx(pair))).collect()
}

/// (x - mean) / sqrt(mean x^2 - mean^2 + eps).
pub fn layer_norm<E: Element>(x: &[E], eps: f64) -> Vec<E> {
    let n = x.len() as f64;
    let mean = round::<E>(x.iter().fold(0.0, |sum, x| round::<E>(sum + x.widen())) / n);
    let squares = x.iter().fold(0.0, |sum, x| round::<E>(sum + round::<E>(x.widen() * x.widen())));
    let variance = round::<E>(round::<E>(squares / n) - round::<E>(mean * mean));
    let root = round::<E>(round::<E>(variance + eps).sqrt());
    x.iter().map(|x| E::from_wide(round::<E>(x.widen() - mean) / root)).collect()
}

/// e^x as a power of two.
pub fn exp<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen() * std::f64::consts::LOG2_E).exp2())
}

/// ln x by way of the binary logarithm.
pub fn log<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen().log2()) * round::<E>(std::f64::consts::LN_2))
}

/// 1 / (1 + e^-x).
pub fn sigmoid<E: Element>(x: E) -> E {
    E::from_wide(1.0 / round::<E>(1.0 + round::<E>((-x.widen()).exp())))
}

/// x / (1 + e^-x).
pub fn silu<E: Element>(x: E) -> E {
    E::from_wide(x.widen() / round::<E>(1.0 + round::<E>((-x.widen()).exp())))
}

/// e^x - 1.
pub fn expm1<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(x.widen().exp()) - 1.0)
}

/// ln(1 + x).
pub fn log1p<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(1.0 + x.widen()).ln())
}

/// (e^2x - 1) / (e^2x + 1).
pub fn tanh<E: Element>(x: E) -> E {
    let e = round::<E>((2.0 * x.widen()).exp());
    E::from_wide(round::<E>(e - 1.0) / round::<E>(e + 1.0))
}

/// ln(sigmoid x).
pub fn log_sigmoid<E: Element>(x: E) -> E {
    E::from_wide(sigmoid(x).widen().ln())
}

/// ln(1 + e^x).
pub fn softplus<E: Element>(x: E) -> E {
    E::from_wide(round::<E>(1.0 + round::<E>(x.widen().exp())).ln())
}

/// sqrt(x) by way of the logarithm.
pub fn sqrt<E: Element>(x: E) -> E {
    E::from_wide((round::<E>(x.widen().ln()) / 2.0).exp())
}

/// 1 / sqrt(x).
pub fn rsqrt<E: Element>(x: E) -> E {
    E::from_wide(1.0 / round::<E>(x.widen().sqrt()))
}

/// erf x by formula 7.1.26 of Abramowitz and Stegun, 1964.
pub fn erf<E: Element>(x: E) -> E {
    let a = x.widen().abs();
    let t = round::<E>(1.0 / (1.0 + 0.3275911 * a));
    let c = [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429];
    let sum = c.iter().rev().fold(0.0, |sum, c| round::<E>((sum + c) * t));
    E::from_wide(round::<E>(1.0 - sum * (-a * a).exp()).copysign(x.widen()))
}

/// x (1 + erf(x / sqrt(2))) / 2.
pub fn gelu<E: Element>(x: E) -> E {
    let share = 1.0 + erf(E::from_wide(x.widen() / std::f64::consts::SQRT_2)).widen();
    E::from_wide(round::<E>(x.widen() / 2.0) * round::<E>(share))
}

/// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
pub fn gelu_tanh<E: Element>(x: E) -> E {
    let inner = round::<E>(x.widen() + round::<E>(0.044715 * x.widen().powi(3)));
    let tanh = round::<E>((round::<E>(0.7978845608028654) * inner).tanh());
    E::from_wide(round::<E>(x.widen() / 2.0) * round::<E>(1.0 + tanh))
}
