//! The gradients of layer normalisation.

use super::layer_norm::deviations;
use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded dx of [`layer_norm_backward`](crate::layer_norm_backward()) for a row. Element i of dx is a
/// sum over all results j. Each term is dy_j times the derivative of result j with respect to x_i. The weight has the
/// row's length.
///
/// ```
/// use evenkeel::reference::layer_norm_backward;
/// // The normalised values of a row sum to 0 for every x. So a constant dy gives a gradient of 0.
/// assert_eq!(layer_norm_backward(&[1.0f32, 2.0, 6.0], &[5.0; 3], None, 1e-5), [0.0; 3]);
/// ```
pub fn layer_norm_backward<E: Element>(x: &[E], dy: &[E], weight: Option<&[f64]>, eps: f64) -> Vec<E::Exact> {
    let (d, root) = deviations(x, eps);
    let (zero, n) = (DoubleDouble::from(0.0), DoubleDouble::from(x.len() as f64));
    let weight_of = |i: usize| DoubleDouble::from(weight.map_or(1.0, |w| w[i]));
    let h: Vec<DoubleDouble> =
        dy.iter().enumerate().map(|(i, dy)| DoubleDouble::from(dy.widen()) * weight_of(i)).collect();
    // With d = x - mean, the derivative of d_j / root with respect to x_i is
    // `(e - 1/n) / root - d_i * d_j / (n * root^3)`, where e is 1 if i = j, and 0 otherwise.
    let mean = h.iter().fold(zero, |sum, &h| sum + h) / n;
    let along = h.iter().zip(&d).fold(zero, |sum, (&h, &d)| sum + h * d) / (n * root * root);
    let of = |(&h, &d): (&DoubleDouble, &DoubleDouble)| (h - mean - d * along) / root;
    let dx = h.iter().zip(&d).map(|pair| if root == zero { zero } else { of(pair) });
    dx.map(E::Exact::from_double_double).collect()
}

/// Returns the unrounded dweight of [`layer_norm_backward`](crate::layer_norm_backward()) for rows of `cols` columns.
/// dbias, the sum of dy over the rows, has no reference function.
pub fn layer_norm_backward_weight<E: Element>(x: &[E], dy: &[E], cols: usize, eps: f64) -> Vec<E::Exact> {
    let mut sums = vec![DoubleDouble::from(0.0); cols];
    for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
        let (d, root) = deviations(x, eps);
        for ((sum, d), dy) in sums.iter_mut().zip(d).zip(dy) {
            let n = if root == DoubleDouble::from(0.0) { root } else { d / root };
            *sum = *sum + n * DoubleDouble::from(dy.widen());
        }
    }
    sums.into_iter().map(E::Exact::from_double_double).collect()
}
