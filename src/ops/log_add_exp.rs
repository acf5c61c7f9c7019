//! Logarithm of the sum of two exponentials.

use super::elementwise::as_long;
use crate::cpu::pairwise::Function;
use crate::element::Element;
use crate::error::Result;
use crate::simd::{Output, new_vec};

const NAME: &str = "log_add_exp";

/// Computes ln(e^a + e^b) of each pair of elements. This adds two probabilities that are stored as logarithms.
///
/// # Formula
/// ```text
/// y = max(a, b) + ln(1 + e^-|a - b|)
/// ```
///
/// # Shapes
/// `a`, `b` and the result have the same length.
///
/// # Special values
/// | a | b | y |
/// |---|---|---|
/// | NaN | any | NaN |
/// | any | NaN | NaN |
/// | -inf | any but NaN | b |
/// | any but NaN | -inf | a |
/// | -inf | -inf | -inf |
/// | +inf | any but NaN | +inf |
/// | any but NaN | +inf | +inf |
///
/// # Accuracy
/// 0.501 ULP in f32, f16 and bf16; 1 ULP in f64. The unit is the ULP of the largest of |a|, |b| and the magnitude of
/// the result, because the two terms of the formula cancel if e^a + e^b is close to 1.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
/// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
/// set.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// let inf = f32::INFINITY;
/// let y = evenkeel::log_add_exp(&[1000.0f32, -inf, 0.0], &[1000.0, -inf, -100.0])?;
/// assert_eq!(y, [1000.6932, -inf, 3.783506e-44]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn log_add_exp<E: Element>(a: &[E], b: &[E]) -> Result<Vec<E>> {
    new_vec(NAME, a.len(), |out| log_add_exp_into(a, b, out))
}

/// Writes the result of [`log_add_exp`] to `out`, which has the length of `a`, and returns the written slice.
pub fn log_add_exp_into<'a, E: Element>(a: &[E], b: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
    let out = out.into();
    as_long(NAME, "b", b.len(), a.len())?;
    as_long(NAME, "out", out.len(), a.len())?;
    E::pairwise(a, b, out, Function::LogAddExp)
}

/// Replaces `a` by the result of [`log_add_exp`].
pub fn log_add_exp_in_place<E: Element>(a: &mut [E], b: &[E]) -> Result<()> {
    as_long(NAME, "b", b.len(), a.len())?;
    E::pairwise_in_place(a, b, Function::LogAddExp)
}
