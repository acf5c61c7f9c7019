//! The logarithm of softmax.

use super::same_lanes;
use super::softmax::{Softmax, settle};
use crate::cpu;
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

const OP: &str = "log_softmax";

/// The logarithm of softmax along each lane.
///
/// # Formula
/// ```text
/// y_i = (z_i - m) - ln sum_j e^(z_j - m),   m = max z,   z = logits of the scores (see Softmax)
/// ```
///
/// # Shapes
/// As [`softmax`](crate::softmax).
///
/// # Special values
/// | row | y |
/// |---|---|
/// | all -inf, or wholly masked | the policy: -inf, -ln n, or an error |
/// | a NaN that is not behind a keep flag of 0 | NaN in this row only |
/// | a logit of +inf | NaN in this row only |
/// | some -inf or masked | -inf there |
/// | one element | 0 |
/// | no columns | nothing |
///
/// # Accuracy
/// f32: 2.5 ULP, also for the small results of a row with one large logit, where ln of the sum is computed as log1p of the
/// rest. On rows whose errors are unrelated, such as random ones, 2 ULP were measured and are asserted by tests. f16, bf16:
/// 0.51 ULP. f64: 3 ULP. The bounds are derived for every row in `docs/accuracy/softmax.md`.
///
/// An ln S below n 2^-126 may also be off by 2^-150 for each column (f64: below n 2^-1022 by 2^-1075). S is the sum of
/// e^(z_j - m), n the number of columns.
///
/// # Errors
/// As [`softmax`](crate::softmax).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, log_softmax};
/// // ln(softmax(x)) would be 0 and -inf here.
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

/// [`log_softmax`] into `out`, which has the shape of `x`; returns the memory of `out`.
pub fn log_softmax_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    out: impl Into<LanesMut<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, out) = (x.into(), out.into());
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let scores = options.resolve(OP, &x.geometry)?;
    let (written, met) = E::log_softmax(x, out, cpu::log_softmax::LogSoftmax(scores))?;
    settle(OP, met)?;
    Ok(written)
}

/// [`log_softmax`] in place.
pub fn log_softmax_in_place<'a, E: Element>(x: impl Into<LanesMut<'a, E>>, options: &Softmax<'_>) -> Result<()> {
    let x = x.into();
    let scores = options.resolve(OP, &x.geometry)?;
    let met = E::log_softmax_in_place(OP, x, cpu::log_softmax::LogSoftmax(scores))?;
    settle(OP, met)
}
