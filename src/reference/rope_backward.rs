//! The gradient of rotary position embedding.

use super::{Real, rope_angle};
use crate::element::Element;

/// [`rope_backward`](crate::rope_backward()) of a row, unrounded: for each result of [`rope`](super::rope) its
/// derivatives with respect to both of the pair, times its gradient. The row's length is even.
///
/// ```
/// use evenkeel::reference::rope_backward;
/// assert_eq!(rope_backward(&[1.0f32, 0.0], 2, 10_000.0, false), [2.0f64.cos(), -2.0f64.sin()]);
/// ```
pub fn rope_backward<E: Element>(dy: &[E], position: i64, theta: f64, interleaved: bool) -> Vec<E::Exact> {
    let half = dy.len() / 2;
    let mut dx = vec![E::Exact::from(0.0); dy.len()];
    for i in 0..half {
        let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let (sin, cos) = E::Exact::sin_cos(rope_angle(position, i, dy.len(), theta));
        for (of, by_a, by_b) in [(first, cos, -sin), (second, sin, cos)] {
            let dy = E::Exact::from(dy[of].widen());
            dx[first] = dx[first] + dy * by_a;
            dx[second] = dx[second] + dy * by_b;
        }
    }
    dx
}
