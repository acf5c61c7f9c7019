//! Stochastic rounding of a tensor.

use super::init::Stream;
use crate::cpu::stochastic_rounding::round_all;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;

const OP: &str = "stochastic_round";

/// Rounds numbers stochastically to f16 or bf16, for the weights of an optimiser without master weights.
///
/// A number between two neighbouring values of the type is rounded to one of them. The probability of each value is the
/// number's distance from the other value, divided by the spacing of the two values, with an error of at most 2^-33.
/// The expected result differs from the number by at most 2^-33 of the spacing. The random bits depend only on the
/// stream, the step and the index of the element. They are the same on every machine, for any number of threads.
/// [`Optimizer::stochastic_rounding`](super::Optimizer::stochastic_rounding) rounds its weights in the same way.
///
/// # Special values
/// | number | result |
/// |---|---|
/// | representable in the type | the same number |
/// | magnitude above the largest value of the type | rounded to nearest: the largest value, or an infinity |
/// | NaN | NaN |
///
/// # Errors
/// [`Error::ShapeMismatch`] if `from` and `to` have different lengths. [`Error::InvalidArgument`] if `to` is f32 or
/// f64. [`Error::Unavailable`] if the requested instruction set is unavailable. After an error nothing has been
/// written.
///
/// # Panics
/// Never.
///
/// # Source
/// Gupta, Agrawal, Gopalakrishnan and Narayanan, "Deep learning with limited numerical precision", 2015. The random
/// bits are Philox4x32-10.
///
/// # Example
/// ```
/// use evenkeel::train::{init::Stream, stochastic_round};
/// use half::bf16;
/// let mut rounded = [bf16::ZERO; 1000];
/// // The neighbours of 1.002 in bf16 are 1 and 1.0078125.
/// stochastic_round(&[1.002; 1000], &mut rounded, Stream::named(42, "weight"), 0)?;
/// let up = rounded.iter().filter(|&&x| x == bf16::from_f32(1.0078125)).count();
/// assert_eq!(up + rounded.iter().filter(|&&x| x == bf16::ONE).count(), 1000);
/// assert!((up as f64 - 1000.0 * 0.002 / 0.0078125).abs() < 60.0);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn stochastic_round<'a>(from: &[f32], to: impl Into<FloatsMut<'a>>, stream: Stream, step: u64) -> Result<()> {
    let (to, random) = (to.into(), stream.random_bits(step));
    if to.len() != from.len() {
        return Err(Error::shape(OP, "to", format!("{} elements", to.len()), from.len().to_string()));
    }
    match to {
        FloatsMut::F16(to) => round_all(from, to, random),
        FloatsMut::BF16(to) => round_all(from, to, random),
        other => Err(Error::invalid(OP, "the type of the results", other.dtype(), "F16 or BF16")),
    }
}
