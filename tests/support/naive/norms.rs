//! Norms and their gradients.

use super::{round, sum};
use evenkeel::Element;

fn mean<E: Element>(terms: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = terms.len() as f64;
    round::<E>(sum::<E>(terms) / n)
}

fn mean_square<E: Element>(x: &[E]) -> f64 {
    mean::<E>(x.iter().map(|x| x.widen() * x.widen()))
}

/// Returns the mean of `x`, and the variance `mean(x^2) - mean(x)^2`.
pub fn moments<E: Element>(x: &[E]) -> [f64; 2] {
    let mean = mean::<E>(x.iter().map(|x| x.widen()));
    [mean, round::<E>(mean_square(x) - round::<E>(mean * mean))]
}

fn root<E: Element>(square: f64, eps: f64) -> f64 {
    round::<E>(round::<E>(square + eps).sqrt())
}

/// Computes `x / max(sqrt(sum(x^2)), eps)`.
pub fn l2_normalize<E: Element>(x: &[E], eps: f64) -> Vec<E> {
    let squares = sum::<E>(x.iter().map(|x| x.widen() * x.widen()));
    let norm = round::<E>(squares.sqrt()).max(round::<E>(eps));
    x.iter().map(|x| E::from_wide(x.widen() / norm)).collect()
}

/// Computes `x / sqrt(mean(x^2) + eps)`.
pub fn rms_norm<E: Element>(x: &[E], eps: f64) -> Vec<E> {
    let root = root::<E>(mean_square(x), eps);
    x.iter().map(|x| E::from_wide(x.widen() / root)).collect()
}

/// Multiplies the result of [`rms_norm`] by a matrix of one row.
pub fn rms_norm_linear<E: Element>(x: &[E], matrix: &[E], eps: f64) -> Vec<E> {
    let products = rms_norm(x, eps).into_iter().zip(matrix).map(|(n, m)| round::<E>(n.widen() * m.widen()));
    vec![E::from_wide(products.fold(0.0, |sum, product| round::<E>(sum + product)))]
}

/// Computes `(x - mean(x)) / sqrt(mean(x^2) - mean(x)^2 + eps)`.
pub fn layer_norm<E: Element>(x: &[E], eps: f64) -> Vec<E> {
    let [mean, variance] = moments(x);
    let root = root::<E>(variance, eps);
    x.iter().map(|x| E::from_wide(round::<E>(x.widen() - mean) / root)).collect()
}

/// Computes `(dy - n * mean(dy * n)) / rms`, where `n` is the normalised row.
pub fn rms_norm_backward<E: Element>(x: &[E], dy: &[E], eps: f64) -> Vec<E> {
    gradient(&rms_norm(x, eps), dy, root::<E>(mean_square(x), eps), false)
}

/// Computes `(dy - mean(dy) - n * mean(dy * n)) / deviation`, where `n` is the normalised row.
pub fn layer_norm_backward<E: Element>(x: &[E], dy: &[E], eps: f64) -> Vec<E> {
    let [_, variance] = moments(x);
    gradient(&layer_norm(x, eps), dy, root::<E>(variance, eps), true)
}

fn gradient<E: Element>(n: &[E], dy: &[E], root: f64, centred: bool) -> Vec<E> {
    let along = mean::<E>(n.iter().zip(dy).map(|(n, dy)| n.widen() * dy.widen()));
    let mean = if centred { mean::<E>(dy.iter().map(|dy| dy.widen())) } else { 0.0 };
    let dx = |(n, dy): (&E, &E)| round::<E>(round::<E>(dy.widen() - mean) - round::<E>(n.widen() * along)) / root;
    n.iter().zip(dy).map(|pair| E::from_wide(dx(pair))).collect()
}
