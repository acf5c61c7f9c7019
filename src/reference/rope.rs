//! Rotary position embedding.

use super::{DoubleDouble, Real};
use crate::element::Element;

/// [`rope`](crate::rope()) of a row, unrounded. The row's length is even.
///
/// ```
/// use evenkeel::reference::rope;
/// let y = rope(&[1.0f32, 0.0], 2, 10_000.0, false);
/// assert_eq!(y, [2.0f64.cos(), 2.0f64.sin()]);
/// ```
pub fn rope<E: Element>(x: &[E], position: i64, theta: f64, interleaved: bool) -> Vec<E::Exact> {
    let half = x.len() / 2;
    let mut y = vec![E::Exact::from(0.0); x.len()];
    for i in 0..half {
        let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let (sin, cos) = E::Exact::sin_cos(rope_angle(position, i, x.len(), theta));
        let (a, b) = (E::Exact::from(x[first].widen()), E::Exact::from(x[second].widen()));
        y[first] = a * cos - b * sin;
        y[second] = a * sin + b * cos;
    }
    y
}

/// The angle by which pair `i` of a row of `cols` columns is rotated at a position: the f64 product of the position
/// and of theta^(-2i/cols) rounded to f64.
pub fn rope_angle(position: i64, i: usize, cols: usize, theta: f64) -> f64 {
    let exponent = DoubleDouble::from(-2.0 * i as f64) / DoubleDouble::from(cols as f64);
    let frequency = (DoubleDouble::from(theta).ln() * exponent).exp().to_f64().min(f64::MAX);
    // An angle beyond f64 is its largest number: some rotation, as any angle of that size is.
    (position as f64 * frequency).clamp(f64::MIN, f64::MAX)
}
