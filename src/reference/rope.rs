//! Rotary position embedding.

use super::{DoubleDouble, Real};
use crate::element::Element;
use crate::ops::rope::{LongRope, Rope, RopeScaling, Yarn};

/// Returns the unrounded result of [`rope`](crate::rope()) for a row. The row's length must be even.
///
/// ```
/// use evenkeel::{Rope, reference::rope};
/// let y = rope(&[1.0f32, 0.0], 2, &Rope::default());
/// assert_eq!(y, [2.0f64.cos(), 2.0f64.sin()]);
/// ```
pub fn rope<E: Element>(x: &[E], position: i64, options: &Rope<'_>) -> Vec<E::Exact> {
    let x: Vec<E::Exact> = x.iter().map(|x| x.widen().into()).collect();
    rotated(&x, position, options)
}

pub(super) fn rotated<R: Real>(x: &[R], position: i64, options: &Rope<'_>) -> Vec<R> {
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

/// Returns the sine and the cosine of the rotation angle of pair `i` at a position, in a row of `cols` columns. Both
/// are multiplied by the attention factor.
pub(super) fn rope_sin_cos<R: Real>(position: i64, i: usize, cols: usize, options: &Rope<'_>) -> (R, R) {
    let (sin, cos) = R::sin_cos(rope_angle(position, i, cols, options));
    let factor = R::from_double_double(rope_factor(options));
    (sin * factor, cos * factor)
}

/// Returns the rotation angle of pair `i` at a position, in a row of `cols` columns. The frequency is rounded to f64,
/// and then multiplied by the position in f64.
pub fn rope_angle(position: i64, i: usize, cols: usize, options: &Rope<'_>) -> f64 {
    let frequency = frequency(i, cols, options).to_f64().min(f64::MAX);
    // An angle beyond the range of f64 is clamped to this range. So large an f64 angle does not determine a rotation
    // anyway, because adjacent angles differ by many turns.
    (position as f64 * frequency).clamp(f64::MIN, f64::MAX)
}

/// Returns the attention factor, which multiplies cosines and sines. It is 1 except with YaRN and LongRoPE.
pub fn rope_factor(options: &Rope<'_>) -> DoubleDouble {
    let one = number(1.0);
    match options.scaling {
        Some(
            RopeScaling::Yarn(Yarn { attention_factor: Some(factor), .. })
            | RopeScaling::LongRope(LongRope { attention_factor: Some(factor), .. }),
        ) => factor.into(),
        Some(RopeScaling::Yarn(Yarn { factor, mscale, mscale_all_dim, .. })) => {
            let of = |mscale: f64| number(mscale) * number(factor).ln() / number(10.0) + one;
            if mscale == 0.0 || mscale_all_dim == 0.0 { of(1.0) } else { of(mscale) / of(mscale_all_dim) }
        }
        Some(RopeScaling::LongRope(LongRope { factor, original_positions, .. })) => {
            (one + number(factor).ln() / number(original_positions as f64).ln()).sqrt()
        }
        _ => one,
    }
}

fn number(value: f64) -> DoubleDouble {
    value.into()
}

/// Returns base^(-2i/cols).
fn power(base: DoubleDouble, i: usize, cols: usize) -> DoubleDouble {
    (base.ln() * (number(-2.0 * i as f64) / number(cols as f64))).exp()
}

fn frequency(i: usize, cols: usize, options: &Rope<'_>) -> DoubleDouble {
    let theta = number(options.theta);
    let plain = power(theta, i, cols);
    let Some(scaling) = options.scaling else { return plain };
    let (one, d) = (number(1.0), cols as f64);
    match scaling {
        RopeScaling::Linear { factor } => plain / number(factor),
        // With two columns, the only frequency is base^0 = 1. The formula below would divide by 0.
        RopeScaling::Ntk { .. } if cols == 2 => one,
        RopeScaling::Ntk { factor } => {
            let stretch = (number(factor).ln() * (number(d) / number(d - 2.0))).exp();
            power(theta * stretch, i, cols)
        }
        RopeScaling::DynamicNtk { .. } if cols == 2 => one,
        RopeScaling::DynamicNtk { factor, original_positions, sequence } => {
            let (length, original) = (sequence.max(original_positions) as f64, original_positions as f64);
            let factor = number(factor);
            let stretch = factor * number(length) / number(original) - (factor - one);
            power(theta * (stretch.ln() * (number(d) / number(d - 2.0))).exp(), i, cols)
        }
        RopeScaling::Yarn(Yarn { factor, original_positions, beta_fast, beta_slow, truncate, .. }) => {
            let place = |turns: f64| {
                let wave = number(original_positions as f64) / (number(turns) * DoubleDouble::two_pi());
                number(d) * wave.ln() / (number(2.0) * theta.ln())
            };
            let (low, high) = (place(beta_fast), place(beta_slow));
            let (low, high) =
                if truncate { (number(low.to_f64().floor()), number(high.to_f64().ceil())) } else { (low, high) };
            let low = if low < number(0.0) { number(0.0) } else { low };
            let high = if high > number(d - 1.0) { number(d - 1.0) } else { high };
            let high = if high == low { high + number(0.001) } else { high };
            let ramp = (number(i as f64) - low) / (high - low);
            let ramp = if ramp < number(0.0) { number(0.0) } else { ramp };
            let ramp = if ramp > one { one } else { ramp };
            plain / number(factor) * ramp + plain * (one - ramp)
        }
        RopeScaling::LongRope(LongRope { short, long, original_positions, sequence, .. }) => {
            plain / number(if sequence > original_positions { long[i] } else { short[i] })
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
