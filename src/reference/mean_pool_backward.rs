//! The gradient of the mean over the tokens of a sequence.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// Returns the unrounded result of [`mean_pool_backward`](crate::mean_pool_backward()) for one sequence of `tokens`
/// tokens. `counts` returns whether the mean includes a token.
///
/// ```
/// use evenkeel::reference::mean_pool_backward;
/// assert_eq!(mean_pool_backward(&[1.0f32], 3, |token| token < 2), [0.5, 0.5, 0.0]);
/// ```
pub fn mean_pool_backward<E: Element>(dy: &[E], tokens: usize, counts: impl Fn(usize) -> bool) -> Vec<E::Exact> {
    let n = DoubleDouble::from((0..tokens).filter(|&t| counts(t)).count().max(1) as f64);
    let share = |t: usize, dy: &E| if counts(t) { DoubleDouble::from(dy.widen()) / n } else { DoubleDouble::from(0.0) };
    let all = (0..tokens).flat_map(|t| dy.iter().map(move |dy| (t, dy)));
    all.map(|(t, dy)| E::Exact::from_double_double(share(t, dy))).collect()
}
