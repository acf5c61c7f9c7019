//! The SiLU-gated linear unit (SwiGLU).

use super::elementwise::as_long;
use crate::element::Element;
use crate::error::Result;
use crate::simd::{Output, new_vec};

const NAME: &str = "swiglu";

/// Computes silu(gate) * up for each pair of elements, rounded once.
///
/// This is the activation between the projections of the feed-forward layers of Llama, Mistral and Qwen models. Each
/// input is read once and the result is written once.
///
/// # Formula
/// ```text
/// y = gate / (1 + e^-gate) * up
/// ```
///
/// # Shapes
/// `gate`, `up` and the result have the same length.
///
/// # Special values
/// | gate | up | y |
/// |---|---|---|
/// | NaN | any | NaN |
/// | any | NaN | NaN |
/// | -inf | finite | -0 * up |
/// | +inf | not 0 | infinite, with the sign of up |
/// | +0, -0 | finite | gate * up |
/// | -inf, +0, -0 | infinite | NaN |
/// | +inf | 0 | NaN |
///
/// A product that overflows the type is infinite.
///
/// # Accuracy
/// f32: 0.502 ULP. f16, bf16: 0.501 ULP. f64: 2 ULP. Elements of f64 are computed in f64, elements of f32 in pairs of
/// f32 (float-float numbers), and elements of f16 and bf16 in f32. If intermediate values would overflow or underflow
/// in f32, elements of every type are computed in f64.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
/// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
/// set.
///
/// # Panics
/// Never.
///
/// # Source
/// Shazeer, "GLU variants improve transformer", 2020.
///
/// # Example
/// ```
/// // silu(-95) rounded to f32 would be subnormal and lose digits before the product.
/// let y = evenkeel::swiglu(&[1.0f32, -95.0], &[2.0, 1e30])?;
/// assert_eq!(y, [1.4621172, -5.2450283e-10]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn swiglu<E: Element>(gate: &[E], up: &[E]) -> Result<Vec<E>> {
    new_vec(NAME, gate.len(), |out| swiglu_into(gate, up, out))
}

/// Writes the result of [`swiglu`] to `out`, which has the length of `gate`, and returns the written slice.
pub fn swiglu_into<'a, E: Element>(gate: &[E], up: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
    let out = out.into();
    as_long(NAME, "up", up.len(), gate.len())?;
    as_long(NAME, "out", out.len(), gate.len())?;
    E::swiglu(gate, up, out)
}

/// Replaces `gate` by the result of [`swiglu`].
pub fn swiglu_in_place<E: Element>(gate: &mut [E], up: &[E]) -> Result<()> {
    as_long(NAME, "up", up.len(), gate.len())?;
    E::swiglu_in_place(gate, up)
}
