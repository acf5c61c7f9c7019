//! Rotary position embedding.

use super::{DoubleDouble, Real};
use crate::element::Element;
use crate::ops::rope::{Rope, RopeScaling};

/// [`rope`](crate::rope()) of a row, unrounded. The row's length is even.
///
/// ```
/// use evenkeel::{Rope, reference::rope};
/// let y = rope(&[1.0f32, 0.0], 2, &Rope::default());
/// assert_eq!(y, [2.0f64.cos(), 2.0f64.sin()]);
/// ```
pub fn rope<E: Element>(x: &[E], position: i64, options: &Rope) -> Vec<E::Exact> {
    let x: Vec<E::Exact> = x.iter().map(|x| x.widen().into()).collect();
    rotated(&x, position, options)
}

pub(super) fn rotated<R: Real>(x: &[R], position: i64, options: &Rope) -> Vec<R> {
    let half = x.len() / 2;
    let mut y = x.to_vec();
    for i in 0..half {
        let (first, second) = if options.interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let (sin, cos) = rope_sin_cos::<R>(position, i, x.len(), options);
        y[first] = x[first] * cos - x[second] * sin;
        y[second] = x[first] * sin + x[second] * cos;
    }
    y
}

/// What pair `i` of a row of `cols` columns is rotated with at a position, times the attention factor.
pub(super) fn rope_sin_cos<R: Real>(position: i64, i: usize, cols: usize, options: &Rope) -> (R, R) {
    let (sin, cos) = R::sin_cos(rope_angle(position, i, cols, options));
    let factor = R::from_double_double(rope_factor(options));
    (sin * factor, cos * factor)
}

/// The angle by which pair `i` of a row of `cols` columns is rotated at a position: the f64 product of the position
/// and of the frequency rounded to f64.
pub fn rope_angle(position: i64, i: usize, cols: usize, options: &Rope) -> f64 {
    let frequency = frequency(i, cols, options).to_f64().min(f64::MAX);
    // An angle beyond f64 is its largest number: some rotation, as any angle of that size is.
    (position as f64 * frequency).clamp(f64::MIN, f64::MAX)
}

/// What YaRN multiplies cosines and sines with, and 1 where there is no YaRN.
pub fn rope_factor(options: &Rope) -> DoubleDouble {
    match options.scaling {
        Some(RopeScaling::Yarn { attention_factor: Some(factor), .. }) => factor.into(),
        Some(RopeScaling::Yarn { factor, .. }) => number(factor).ln() / number(10.0) + number(1.0),
        _ => number(1.0),
    }
}

fn number(value: f64) -> DoubleDouble {
    value.into()
}

/// base^(-2i/cols).
fn power(base: DoubleDouble, i: usize, cols: usize) -> DoubleDouble {
    (base.ln() * (number(-2.0 * i as f64) / number(cols as f64))).exp()
}

fn frequency(i: usize, cols: usize, options: &Rope) -> DoubleDouble {
    let theta = number(options.theta);
    let plain = power(theta, i, cols);
    let Some(scaling) = options.scaling else { return plain };
    let (one, d) = (number(1.0), cols as f64);
    match scaling {
        RopeScaling::Linear { factor } => plain / number(factor),
        // A head of one pair has no base.
        RopeScaling::Ntk { .. } if cols == 2 => one,
        RopeScaling::Ntk { factor } => {
            let stretch = (number(factor).ln() * (number(d) / number(d - 2.0))).exp();
            power(theta * stretch, i, cols)
        }
        RopeScaling::Yarn { factor, original_positions, beta_fast, beta_slow, .. } => {
            let place = |turns: f64| {
                let wave = number(original_positions as f64) / (number(turns) * DoubleDouble::two_pi());
                (number(d) * wave.ln() / (number(2.0) * theta.ln())).to_f64()
            };
            let low = place(beta_fast).floor().max(0.0);
            let high = place(beta_slow).ceil().min(d - 1.0);
            let high = if high == low { high + 0.001 } else { high };
            let ramp = number(i as f64 - low) / number(high - low);
            let ramp = if ramp < number(0.0) { number(0.0) } else { ramp };
            let ramp = if ramp > one { one } else { ramp };
            plain / number(factor) * ramp + plain * (one - ramp)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
            let (low, high) = (number(low_freq_factor), number(high_freq_factor));
            let (wavelength, length) = (DoubleDouble::two_pi() / plain, number(original_positions as f64));
            if wavelength < length / high {
                plain
            } else if wavelength > length / low {
                plain / number(factor)
            } else {
                let smooth = (length / wavelength - low) / (high - low);
                (one - smooth) * plain / number(factor) + smooth * plain
            }
        }
    }
}
