//! The gradient of rotary position embedding.

use super::rope::rope_sin_cos;
use crate::element::Element;
use crate::ops::rope::Rope;

/// Returns the unrounded result of [`rope_backward`](crate::rope_backward()) for a row. The row's length must be even.
///
/// [`rope`](super::rope) turns each pair of elements into two results. The gradient of an element is a sum over both
/// results. Each term is the result's dy times the result's derivative with respect to the element.
///
/// ```
/// use evenkeel::{Rope, reference::rope_backward};
/// assert_eq!(rope_backward(&[1.0f32, 0.0], 2, &Rope::default()), [2.0f64.cos(), -2.0f64.sin()]);
/// ```
pub fn rope_backward<E: Element>(dy: &[E], position: i64, options: &Rope<'_>) -> Vec<E::Exact> {
    let half = dy.len() / 2;
    let mut dx = vec![E::Exact::from(0.0); dy.len()];
    for i in 0..half {
        let (first, second) = if options.interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let (sin, cos) = rope_sin_cos::<E::Exact>(position, i, dy.len(), options);
        for (of, by_a, by_b) in [(first, cos, -sin), (second, sin, cos)] {
            let dy = E::Exact::from(dy[of].widen());
            dx[first] = dx[first] + dy * by_a;
            dx[second] = dx[second] + dy * by_b;
        }
    }
    dx
}
