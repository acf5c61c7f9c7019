//! Statistics and clipping of whole tensors.

use super::{moments, round, sum};
use evenkeel::Element;

/// Computes the mean, and the standard deviation `sqrt(mean(x^2) - mean(x)^2)`.
pub fn inspect<E: Element>(x: &[E]) -> [E; 2] {
    let [mean, variance] = moments(x);
    [mean, variance.sqrt()].map(E::from_wide)
}

/// Computes `g * min(max_norm / sqrt(sum(g^2)), 1)` for each gradient `g`.
pub fn clip_grad_norm<E: Element>(grad: &[E], max_norm: f64) -> Vec<E> {
    let norm = round::<E>(sum::<E>(grad.iter().map(|g| g.widen() * g.widen())).sqrt());
    let factor = round::<E>(round::<E>(max_norm) / norm).min(1.0);
    grad.iter().map(|g| E::from_wide(g.widen() * factor)).collect()
}

/// Computes `min(max(g, -limit), limit)` for each gradient `g`.
pub fn clip_grad_value<E: Element>(g: E, limit: f64) -> E {
    let limit = round::<E>(limit);
    E::from_wide(g.widen().max(-limit).min(limit))
}
