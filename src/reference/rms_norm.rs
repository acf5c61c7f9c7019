//! Root-mean-square normalisation.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded result of [`rms_norm`](crate::rms_norm()) for a row. The weight has the row's length.
///
/// ```
/// use evenkeel::reference::rms_norm;
/// assert_eq!(rms_norm(&[3e30f32, -3e30], None, 0.0, 0.0), [1.0, -1.0]);
/// ```
pub fn rms_norm<E: Element>(x: &[E], weight: Option<&[f64]>, weight_offset: f64, eps: f64) -> Vec<E::Exact> {
    weighted::<E>(&normalised(x, eps), weight, weight_offset)
}

/// Returns [`rms_norm`] with [`Rounding::BeforeWeight`](crate::Rounding::BeforeWeight): the normalised value is rounded
/// to the row's type, but its product with the weight is not rounded.
pub fn rms_norm_before_weight<E: Element>(
    x: &[E],
    weight: Option<&[f64]>,
    weight_offset: f64,
    eps: f64,
) -> Vec<E::Exact> {
    let rounded: Vec<DoubleDouble> =
        normalised(x, eps).iter().map(|n| E::from_wide(n.to_f64()).widen().into()).collect();
    weighted::<E>(&rounded, weight, weight_offset)
}

/// Returns `x / sqrt(mean(x^2) + eps)` for each element x, or 0 if the root is 0.
pub(super) fn normalised<E: Element>(x: &[E], eps: f64) -> Vec<DoubleDouble> {
    let x: Vec<DoubleDouble> = x.iter().map(|x| x.widen().into()).collect();
    let zero = DoubleDouble::from(0.0);
    let squares = x.iter().fold(zero, |sum, &x| sum + x * x);
    let root = (squares / DoubleDouble::from(x.len() as f64) + DoubleDouble::from(eps)).sqrt();
    x.into_iter().map(|x| if root == zero { zero } else { x / root }).collect()
}

fn weighted<E: Element>(n: &[DoubleDouble], weight: Option<&[f64]>, weight_offset: f64) -> Vec<E::Exact> {
    let weight_of = |i: usize| DoubleDouble::from(weight.map_or(1.0, |w| w[i])) + DoubleDouble::from(weight_offset);
    n.iter().enumerate().map(|(i, &n)| E::Exact::from_double_double(n * weight_of(i))).collect()
}
