//! The gradients of the SiLU-gated linear unit (SwiGLU).

use super::elementwise::as_long;
use crate::element::Element;
use crate::error::Result;
use crate::simd::{Output, new_vecs};

const NAME: &str = "swiglu_backward";

/// Computes dgate and dup, the gradients of [`swiglu`](crate::swiglu()) with respect to its inputs. dy is the gradient
/// of the result.
///
/// # Formula
/// ```text
/// dgate = dy up (s + gate s (1 - s)), s = 1 / (1 + e^-gate)
/// dup = dy gate s
/// ```
///
/// # Shapes
/// `gate`, `up`, `dy` and both results have the same length.
///
/// # Special values
/// | gate | dgate | dup |
/// |---|---|---|
/// | -inf | +0 or -0 if `dy * up` is finite | +0 or -0 if dy is finite |
/// | +inf | `dy * up` | infinite, with the sign of dy |
/// | NaN, or any gate if dy is NaN | NaN | NaN |
/// | any gate but NaN, if dy is 0 | dy | dy |
///
/// Where `up` is NaN, dgate is NaN for every dy. Otherwise the last line of the table takes precedence: an element that
/// is masked out of the loss has a dy of 0, and its gradients must not become NaN.
///
/// # Accuracy
/// 0.501 ULP in f32, f16 and bf16. In f64, the bound is 3 ULP of the product of `|dy * up|` and the larger term of
/// silu's derivative, because the two terms cancel near a zero of the derivative.
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
/// let (dgate, dup) = evenkeel::swiglu_backward(&[1.0f32, -1.2784646], &[2.0, 2.0], &[1.0, 1.0])?;
/// assert_eq!(dgate, [1.8553411, -5.6540795e-9]);
/// assert_eq!(dup, [0.7310586, -0.27846456]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn swiglu_backward<E: Element>(gate: &[E], up: &[E], dy: &[E]) -> Result<(Vec<E>, Vec<E>)> {
    let [dgate, dup] = new_vecs(NAME, [gate.len(); 2], |[dgate, dup]| {
        swiglu_backward_into(gate, up, dy, dgate, dup).map(|(dgate, dup)| [dgate, dup])
    })?;
    Ok((dgate, dup))
}

/// Computes [`swiglu_backward`], and writes the gradients to `dgate` and `dup`, which have the length of `gate`.
/// Returns both written slices.
pub fn swiglu_backward_into<'a, E: Element>(
    gate: &[E],
    up: &[E],
    dy: &[E],
    dgate: impl Into<Output<'a, E>>,
    dup: impl Into<Output<'a, E>>,
) -> Result<(&'a mut [E], &'a mut [E])> {
    let (dgate, dup) = (dgate.into(), dup.into());
    let lengths = [("up", up.len()), ("dy", dy.len()), ("dgate", dgate.len()), ("dup", dup.len())];
    for (argument, len) in lengths {
        as_long(NAME, argument, len, gate.len())?;
    }
    let [dgate, dup] = E::swiglu_backward([gate, up, dy], [dgate, dup])?;
    Ok((dgate, dup))
}

/// Computes [`swiglu_backward`] in place: `gate` becomes dgate and `up` becomes dup.
pub fn swiglu_backward_in_place<E: Element>(gate: &mut [E], up: &mut [E], dy: &[E]) -> Result<()> {
    as_long(NAME, "up", up.len(), gate.len())?;
    as_long(NAME, "dy", dy.len(), gate.len())?;
    E::swiglu_backward_in_place([gate, up], dy)
}
