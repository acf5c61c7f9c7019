//! Softmax, attention and losses, with their gradients.

use super::{round, sum};
use evenkeel::Element;

/// Computes `e^x / sum(e^x)`.
pub fn softmax<E: Element>(x: &[E]) -> Vec<E> {
    let exps: Vec<f64> = x.iter().map(|x| round::<E>(x.widen().exp())).collect();
    let sum = sum::<E>(exps.iter().copied());
    exps.iter().map(|e| E::from_wide(e / sum)).collect()
}

/// Computes the logarithm of the softmax.
pub fn log_softmax<E: Element>(x: &[E]) -> Vec<E> {
    softmax(x).into_iter().map(|p| E::from_wide(p.widen().ln())).collect()
}

/// Computes `ln(sum(e^x))`.
pub fn logsumexp<E: Element>(x: &[E]) -> E {
    E::from_wide(sum::<E>(x.iter().map(|x| x.widen().exp())).ln())
}

/// Computes `softmax(q * k / sqrt(features)) * v` for one query.
pub fn attention<E: Element>(q: &[E], k: &[E], v: &[E]) -> Vec<E> {
    let features = q.len();
    let product = |key: &[E]| sum::<E>(q.iter().zip(key).map(|(q, k)| q.widen() * k.widen()));
    let scores: Vec<E> = k.chunks(features).map(|key| E::from_wide(product(key) / (features as f64).sqrt())).collect();
    let weights = softmax(&scores);
    let weighted = |i: usize| sum::<E>(weights.iter().zip(v.chunks(features)).map(|(p, v)| p.widen() * v[i].widen()));
    (0..features).map(|i| E::from_wide(weighted(i))).collect()
}

/// Computes the gradient of [`attention`] with respect to its query: `sum(ds * k) / sqrt(features)`. The gradients of
/// the scores, `ds`, are the result of `softmax_backward` for the products of `dy` with the values.
pub fn attention_backward<E: Element>(q: &[E], k: &[E], v: &[E], dy: &[E]) -> Vec<E> {
    let features = q.len();
    let product = |a: &[E], b: &[E]| sum::<E>(a.iter().zip(b).map(|(a, b)| a.widen() * b.widen()));
    let root = (features as f64).sqrt();
    let scores: Vec<E> = k.chunks(features).map(|key| E::from_wide(product(q, key) / root)).collect();
    let grads: Vec<E> = v.chunks(features).map(|value| E::from_wide(product(dy, value))).collect();
    let grads = softmax_backward(&scores, &grads);
    let of = |i: usize| sum::<E>(grads.iter().zip(k.chunks(features)).map(|(grad, key)| grad.widen() * key[i].widen()));
    (0..features).map(|i| E::from_wide(of(i) / root)).collect()
}

/// Computes the negated logarithm of the softmax at the target class.
pub fn cross_entropy<E: Element>(x: &[E], target: usize) -> E {
    E::from_wide(-log_softmax(x)[target].widen())
}

/// Computes `-sum(y * ln(s) + (1 - y) * ln(1 - s))`, where `y` is the target and `s` is the sigmoid of `x`.
pub fn bce_with_logits<E: Element>(x: &[E], target: f64) -> E {
    let term = |x: &E| {
        let s = round::<E>(1.0 / round::<E>(1.0 + round::<E>((-x.widen()).exp())));
        let rest = round::<E>(1.0 - s);
        -round::<E>(target * round::<E>(s.ln()) + (1.0 - target) * round::<E>(rest.ln()))
    };
    E::from_wide(sum::<E>(x.iter().map(term)))
}

/// Computes `sum(p * (ln(p) - ln(q)))`, where `q` is the softmax.
pub fn kl_div<E: Element>(x: &[E], p: &[f64]) -> E {
    let log_q = log_softmax(x);
    E::from_wide(sum::<E>(p.iter().zip(log_q).map(|(p, q)| round::<E>(p * round::<E>(p.ln() - q.widen())))))
}

/// Computes `y * (dy - sum(y * dy))`, where `y` is the softmax.
pub fn softmax_backward<E: Element>(x: &[E], dy: &[E]) -> Vec<E> {
    softmax_backward_from_output(&softmax(x), dy)
}

/// Computes `y * (dy - sum(y * dy))`.
pub fn softmax_backward_from_output<E: Element>(y: &[E], dy: &[E]) -> Vec<E> {
    let mean = sum::<E>(y.iter().zip(dy).map(|(y, dy)| y.widen() * dy.widen()));
    let gradient = |(y, dy): (&E, &E)| E::from_wide(y.widen() * round::<E>(dy.widen() - mean));
    y.iter().zip(dy).map(gradient).collect()
}

/// Computes `dy - y * sum(dy)`, where `y` is the softmax.
pub fn log_softmax_backward<E: Element>(x: &[E], dy: &[E]) -> Vec<E> {
    let sum = sum::<E>(dy.iter().map(|dy| dy.widen()));
    let gradient = |(y, dy): (&E, &E)| E::from_wide(dy.widen() - round::<E>(y.widen() * sum));
    softmax(x).iter().zip(dy).map(gradient).collect()
}

/// Computes `dy - e^y * sum(dy)`.
pub fn log_softmax_backward_from_output<E: Element>(y: &[E], dy: &[E]) -> Vec<E> {
    let sum = sum::<E>(dy.iter().map(|dy| dy.widen()));
    let gradient = |(y, dy): (&E, &E)| {
        let power = round::<E>(y.widen().exp());
        E::from_wide(dy.widen() - round::<E>(power * sum))
    };
    y.iter().zip(dy).map(gradient).collect()
}

/// Computes `y * dy`, where `y` is the softmax.
pub fn logsumexp_backward<E: Element>(x: &[E], dy: E) -> Vec<E> {
    softmax(x).into_iter().map(|y| E::from_wide(y.widen() * dy.widen())).collect()
}

/// Computes the softmax, minus 1 at the target.
pub fn cross_entropy_backward<E: Element>(x: &[E], target: usize) -> Vec<E> {
    let mut y = softmax(x);
    y[target] = E::from_wide(y[target].widen() - 1.0);
    y
}
