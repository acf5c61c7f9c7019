//! The gated linear unit of silu.

use super::elementwise::as_long;
use crate::element::Element;
use crate::error::Result;
use crate::simd::{Output, new_vec};

const NAME: &str = "swiglu";

/// silu(gate) * up of each pair of elements, rounded once: what the feed-forward layers of Llama, Mistral and Qwen
/// models do between their projections, in one read of each and one write.
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
/// A product beyond the type is infinite.
///
/// # Accuracy
/// f32: 0.502 ULP. f16, bf16: 0.501 ULP. f64: 2 ULP. Elements are computed in pairs of f32, or in f32 if they are f16
/// or bf16, where nothing on the way overflows or vanishes; in f64 elsewhere.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all have one length;
/// [`Error::Backend`](crate::Error::Backend) where `EVENKEEL_SIMD` asks for what is not there.
///
/// # Panics
/// Never.
///
/// # Source
/// Shazeer, "GLU variants improve transformer", 2020.
///
/// # Example
/// ```
/// // silu(-95) alone is subnormal in f32, where it has lost digits.
/// let y = evenkeel::swiglu(&[1.0f32, -95.0], &[2.0, 1e30])?;
/// assert_eq!(y, [1.4621172, -5.2450283e-10]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn swiglu<E: Element>(gate: &[E], up: &[E]) -> Result<Vec<E>> {
    new_vec(NAME, gate.len(), |out| swiglu_into(gate, up, out))
}

/// [`swiglu`] into `out`, which has the length of `gate`; returns what was written.
pub fn swiglu_into<'a, E: Element>(gate: &[E], up: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
    let out = out.into();
    as_long(NAME, "up", up.len(), gate.len())?;
    as_long(NAME, "out", out.len(), gate.len())?;
    E::swiglu(gate, up, out)
}

/// [`swiglu`] in place of `gate`.
pub fn swiglu_in_place<E: Element>(gate: &mut [E], up: &[E]) -> Result<()> {
    as_long(NAME, "up", up.len(), gate.len())?;
    E::swiglu_in_place(gate, up)
}
