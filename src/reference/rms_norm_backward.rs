//! The gradients of root-mean-square normalisation.

use super::rms_norm::normalised;
use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded dx of [`rms_norm_backward`](crate::rms_norm_backward()) for a row. Element i of dx is a sum
/// over all results j. Each term is dy_j times the derivative of result j with respect to x_i. The weight has the row's
/// length.
///
/// ```
/// use evenkeel::reference::rms_norm_backward;
/// // The normalised value of a single element is its sign, for any magnitude. So the gradient is 0.
/// assert_eq!(rms_norm_backward(&[3e30f32], &[5.0], None, 0.0, 0.0), [0.0]);
/// ```
pub fn rms_norm_backward<E: Element>(
    x: &[E],
    dy: &[E],
    weight: Option<&[f64]>,
    weight_offset: f64,
    eps: f64,
) -> Vec<E::Exact> {
    let wide = |values: &[E]| values.iter().map(|v| v.widen().into()).collect::<Vec<DoubleDouble>>();
    let (x, dy) = (wide(x), wide(dy));
    let (zero, n) = (DoubleDouble::from(0.0), DoubleDouble::from(x.len() as f64));
    let square = x.iter().fold(zero, |sum, &x| sum + x * x) / n + DoubleDouble::from(eps);
    let weight_of = |i: usize| DoubleDouble::from(weight.map_or(1.0, |w| w[i])) + DoubleDouble::from(weight_offset);
    let h: Vec<DoubleDouble> = dy.iter().enumerate().map(|(i, &dy)| dy * weight_of(i)).collect();
    // With root = sqrt(square), the derivative of x_j / root with respect to x_i is
    // [i = j] / root - x_i x_j / (n root^3).
    let along = h.iter().zip(&x).fold(zero, |sum, (&h, &x)| sum + h * x) / (n * square);
    let of = |(&h, &x): (&DoubleDouble, &DoubleDouble)| (h - x * along) / square.sqrt();
    let dx = h.iter().zip(&x).map(|pair| if square == zero { zero } else { of(pair) });
    dx.map(E::Exact::from_double_double).collect()
}

/// Returns the unrounded dweight of [`rms_norm_backward`](crate::rms_norm_backward()) for rows of `cols` columns. If
/// `rounded` is true, the normalised values are rounded to the rows' type before dy is multiplied by them, as under
/// [`Rounding::BeforeWeight`](crate::Rounding::BeforeWeight).
pub fn rms_norm_backward_weight<E: Element>(x: &[E], dy: &[E], cols: usize, eps: f64, rounded: bool) -> Vec<E::Exact> {
    let mut sums = vec![DoubleDouble::from(0.0); cols];
    for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
        for ((sum, n), dy) in sums.iter_mut().zip(normalised(x, eps)).zip(dy) {
            let n = if rounded { E::from_wide(n.to_f64()).widen().into() } else { n };
            *sum = *sum + n * DoubleDouble::from(dy.widen());
        }
    }
    sums.into_iter().map(E::Exact::from_double_double).collect()
}
