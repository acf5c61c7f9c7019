//! Logarithm of softmax.

use super::same_lanes;
use super::softmax::{Softmax, finish_call};
use crate::cpu;
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "log_softmax";

/// Computes the logarithm of the softmax of each lane.
///
/// # Formula
/// ```text
/// y_i = (z_i - m) - ln sum_j e^(z_j - m),   m = max z,   z = scores after scale, softcap and mask (see Softmax)
/// ```
///
/// # Shapes
/// Shapes are as for [`softmax`](crate::softmax).
///
/// # Special values
/// | row | y |
/// |---|---|
/// | all -inf, or fully masked | by `fully_masked`: -inf (Zeros), -ln n for n columns (Uniform) or an error (Error) |
/// | a NaN, unless the mask excludes it | NaN in this row only |
/// | a logit of +inf | NaN in this row only |
/// | some scores -inf or masked | -inf at these positions |
/// | one element | 0 |
/// | no columns | empty |
///
/// # Accuracy
/// f32: 2.5 ULP. f16, bf16: 0.51 ULP. f64: 3 ULP. The bounds also hold for a result close to 0, which occurs in a row
/// with one large logit. In such a row, the logarithm of the sum is computed as log1p of the sum of all terms but the
/// largest. `docs/accuracy/softmax.md` derives the bounds for every row. On rows whose rounding errors are independent,
/// such as random rows, tests assert 2 ULP in f32.
///
/// Let S be the sum of e^(z_j - m), and n the number of columns. If ln S is below `n * 2^-126`, the error of ln S may
/// be larger by `n * 2^-150`. In f64, replace 2^-126 by 2^-1022 and 2^-150 by 2^-1075.
///
/// # Errors
/// The errors of [`softmax`](crate::softmax).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, log_softmax};
/// // ln(softmax(x)) would give 0 and -inf for the first row.
/// let y = log_softmax(Rows::new(&[120.0f32, 0.0], 1, 2)?, &Softmax::default())?;
/// assert_eq!(y, [-0.0, -120.0]);
/// let y = log_softmax(Rows::new(&[40.0f32, 0.0], 1, 2)?, &Softmax::default())?;
/// assert_eq!(y, [-4.248354e-18, -40.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn log_softmax<'x, E: Element>(x: impl Into<Lanes<'x, E>>, options: &Softmax<'_>) -> Result<Vec<E>> {
    let x = x.into();
    new_vec(OP, x.geometry.shape.elements(), |out| {
        log_softmax_into(x, LanesMut::shaped(out, x.geometry.shape.dims(), x.geometry.axis as isize)?, options)
    })
}

/// Writes the result of [`log_softmax`] to `out`, which has the shape of `x`, and returns `out` as an initialised
/// slice.
pub fn log_softmax_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    out: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, out) = (x.into(), out.into());
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let (written, guards) = E::log_softmax(x, out, cpu::log_softmax::LogSoftmax(scores))?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`log_softmax`].
pub fn log_softmax_in_place<'a, E: Element>(x: impl Into<LanesMut<'a, E>>, options: &Softmax<'_>) -> Result<()> {
    let x = x.into();
    let scores = options.resolve(OP, &x.geometry)?;
    let guards = E::log_softmax_in_place(OP, x, cpu::log_softmax::LogSoftmax(scores))?;
    finish_call(OP, guards)
}
