//! Rotary embeddings and means of rows, with their gradients.

use super::{round, sum};
use evenkeel::Element;

/// Rotates pairs (a, b) of elements, one from each half of the row, to `(a * cos - b * sin, a * sin + b * cos)`. In a
/// row of length `d`, the angle of pair `i` is `position * theta^(-2 * i / d)`.
pub fn rope<E: Element>(x: &[E], position: i64, theta: f64) -> Vec<E> {
    rotated(x, position, theta, 1.0)
}

/// Applies the rotation of [`rope`] in the opposite direction.
pub fn rope_backward<E: Element>(dy: &[E], position: i64, theta: f64) -> Vec<E> {
    rotated(dy, position, theta, -1.0)
}

fn rotated<E: Element>(x: &[E], position: i64, theta: f64, direction: f64) -> Vec<E> {
    let half = x.len() / 2;
    let mut y = x.to_vec();
    for i in 0..half {
        let frequency = round::<E>(theta.powf(-(i as f64) / half as f64));
        let (sin, cos) = round::<E>(round::<E>(position as f64) * frequency).sin_cos();
        let (sin, cos) = (direction * round::<E>(sin), round::<E>(cos));
        let (a, b) = (x[i].widen(), x[i + half].widen());
        y[i] = E::from_wide(round::<E>(a * cos) - round::<E>(b * sin));
        y[i + half] = E::from_wide(round::<E>(a * sin) + round::<E>(b * cos));
    }
    y
}

/// Computes the mean of each column: `sum(x) / n`, where `n` is the number of tokens.
pub fn mean_pool<E: Element>(x: &[E], width: usize) -> Vec<E> {
    let n = round::<E>((x.len() / width) as f64);
    let column = |column: usize| sum::<E>(x.chunks(width).map(|x| x[column].widen()));
    (0..width).map(|i| E::from_wide(column(i) / n)).collect()
}

/// Computes `dy / n` for each of `n` tokens.
pub fn mean_pool_backward<E: Element>(dy: &[E], tokens: usize) -> Vec<E> {
    let n = round::<E>(tokens as f64);
    (0..tokens).flat_map(|_| dy.iter().map(|dy| E::from_wide(dy.widen() / n))).collect()
}
