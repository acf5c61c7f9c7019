//! The mean over the tokens of a sequence.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded result of [`mean_pool`](crate::mean_pool()) for one sequence of shape `[tokens, width]`, over
/// the tokens for which `counts` returns true. If there are no such tokens, the result is zeros.
///
/// ```
/// use evenkeel::reference::mean_pool;
/// assert_eq!(mean_pool(&[1.0f32, 2.0, 4.0, f32::NAN], 1, |token| token < 3), [7.0 / 3.0]);
/// ```
pub fn mean_pool<E: Element>(x: &[E], width: usize, counts: impl Fn(usize) -> bool) -> Vec<E::Exact> {
    let tokens: Vec<&[E]> = x.chunks(width.max(1)).enumerate().filter(|(t, _)| counts(*t)).map(|(_, x)| x).collect();
    let n = DoubleDouble::from(tokens.len().max(1) as f64);
    let mean = |column: usize| {
        // Each term is divided first, so that the sum cannot overflow.
        let terms = tokens.iter().map(|x| DoubleDouble::from(x[column].widen()) / n);
        E::Exact::from_double_double(terms.fold(DoubleDouble::from(0.0), |sum, term| sum + term))
    };
    (0..width).map(mean).collect()
}
