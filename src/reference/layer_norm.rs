//! Layer normalisation.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded result of [`layer_norm`](crate::layer_norm()) for a row. Weight and bias have the row's
/// length.
///
/// The result is computed in [`DoubleDouble`] for every type, because x - mean may cancel all digits of f64.
///
/// ```
/// use evenkeel::reference::layer_norm;
/// assert_eq!(layer_norm(&[1e8f32, 1e8 + 8.0], None, None, 0.0), [-1.0, 1.0]);
/// ```
pub fn layer_norm<E: Element>(x: &[E], weight: Option<&[f64]>, bias: Option<&[f64]>, eps: f64) -> Vec<E::Exact> {
    let zero = DoubleDouble::from(0.0);
    let (d, root) = deviations(x, eps);
    let y = |(i, d): (usize, DoubleDouble)| {
        let normalised = if root == zero { zero } else { d / root };
        let weight = DoubleDouble::from(weight.map_or(1.0, |w| w[i]));
        let bias = DoubleDouble::from(bias.map_or(0.0, |b| b[i]));
        E::Exact::from_double_double(normalised * weight + bias)
    };
    d.into_iter().enumerate().map(y).collect()
}

/// Returns x - mean for each element, and sqrt(variance + eps).
///
/// First subtracts the mean rounded to f64, then subtracts the mean of the differences. The error of each returned
/// difference is therefore only 2^-100 times the average deviation, even if the mean is much larger.
pub(super) fn deviations<E: Element>(x: &[E], eps: f64) -> (Vec<DoubleDouble>, DoubleDouble) {
    let n = DoubleDouble::from(x.len() as f64);
    let mean_of = |v: &[DoubleDouble]| v.iter().fold(DoubleDouble::from(0.0), |sum, &v| sum + v) / n;
    let x: Vec<DoubleDouble> = x.iter().map(|x| x.widen().into()).collect();
    // The mean is rounded to f64, so that its difference from an element is exact.
    let mean = DoubleDouble::from(mean_of(&x).to_f64());
    let near: Vec<DoubleDouble> = x.into_iter().map(|x| x - mean).collect();
    let rest = mean_of(&near);
    let d: Vec<DoubleDouble> = near.into_iter().map(|near| near - rest).collect();
    let squares: Vec<DoubleDouble> = d.iter().map(|&d| d * d).collect();
    (d, (mean_of(&squares) + DoubleDouble::from(eps)).sqrt())
}
