//! Root-mean-square normalisation of a row, followed by products with the rows of a matrix.

use super::rms_norm::normalised;
use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded results of [`rms_norm_linear`](crate::rms_norm_linear()) for a row. Also returns, for each
/// result, the sum of the magnitudes of its terms. The weight and each row of the matrix are as long as the row. The
/// matrix has one row for each result, and the bias has one number for each result.
///
/// ```
/// use evenkeel::reference::rms_norm_linear;
/// let (y, terms) = rms_norm_linear(&[3e30f32, -3e30], &[1.0, 2.0], None, 0.0, 0.0, &[0.5]);
/// assert_eq!((y, terms), (vec![-0.5], vec![3.5]));
/// ```
pub fn rms_norm_linear<E: Element>(
    x: &[E],
    matrix: &[E],
    weight: Option<&[f64]>,
    weight_offset: f64,
    eps: f64,
    bias: &[f64],
) -> (Vec<E::Exact>, Vec<f64>) {
    let number = DoubleDouble::from;
    let weight_of = |i: usize| number(weight.map_or(1.0, |w| w[i])) + number(weight_offset);
    let n: Vec<DoubleDouble> = normalised(x, eps).into_iter().enumerate().map(|(i, n)| n * weight_of(i)).collect();
    let of_result = |(o, &bias): (usize, &f64)| {
        let products = n.iter().zip(&matrix[o * x.len()..]).map(|(&n, w)| n * number(w.widen()));
        let sum = products.clone().fold(number(bias), |sum, product| sum + product);
        let magnitudes = products.fold(bias.abs(), |sum, product| sum + product.to_f64().abs());
        (E::Exact::from_double_double(sum), magnitudes)
    };
    bias.iter().enumerate().map(of_result).unzip()
}
