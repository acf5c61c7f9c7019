//! Layer normalisation.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// [`layer_norm`](crate::layer_norm()) of a row, unrounded. Weight and bias have the row's length.
///
/// It is computed in [`DoubleDouble`] for every type: x - mean may cancel all digits that f64 has.
///
/// ```
/// use evenkeel::reference::layer_norm;
/// assert_eq!(layer_norm(&[1e8f32, 1e8 + 8.0], None, None, 0.0), [-1.0, 1.0]);
/// ```
pub fn layer_norm<E: Element>(x: &[E], weight: Option<&[f64]>, bias: Option<&[f64]>, eps: f64) -> Vec<E::Exact> {
    let x: Vec<DoubleDouble> = x.iter().map(|x| x.widen().into()).collect();
    let (zero, n) = (DoubleDouble::from(0.0), DoubleDouble::from(x.len() as f64));
    let mean = x.iter().fold(zero, |sum, &x| sum + x) / n;
    let variance = x.iter().fold(zero, |sum, &x| sum + (x - mean) * (x - mean)) / n;
    let root = (variance + DoubleDouble::from(eps)).sqrt();
    let y = |(i, &x): (usize, &DoubleDouble)| {
        let normalised = if root == zero { zero } else { (x - mean) / root };
        let weight = DoubleDouble::from(weight.map_or(1.0, |w| w[i]));
        let bias = DoubleDouble::from(bias.map_or(0.0, |b| b[i]));
        E::Exact::from_double_double(normalised * weight + bias)
    };
    x.iter().enumerate().map(y).collect()
}
