//! Gradient clipping by value.

use super::is_in_zero_to;
use crate::cpu::clip_grad_value::NonFinite;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::report::{self, Counts};

pub(crate) const OP: &str = "clip_grad_value";

/// Checks that the limit is 0 or more, and not NaN.
pub(crate) fn check(clip_value: f64) -> Result<()> {
    let is_valid = is_in_zero_to(clip_value, f64::INFINITY);
    if is_valid { Ok(()) } else { Err(Error::invalid(OP, "clip_value", clip_value, "0 or more")) }
}

/// Reports how many tensors have a NaN and how many have an infinity.
pub(crate) fn finish_call(found: &[NonFinite]) {
    let (nan, infinite) =
        (found.iter().filter(|found| found.nan).count(), found.iter().filter(|found| found.infinite).count());
    let counts = Counts { rows: found.len() as u64, nan: nan as u64, infinite: infinite as u64, ..Counts::default() };
    report::record(OP, counts);
}

/// Clamps each element of all gradients to the range from `-clip_value` to `clip_value`.
///
/// # Formula
/// ```text
/// g_i = min(max(g_i, -clip_value), clip_value)
/// ```
///
/// # Shapes
/// `grads` holds any number of slices. Each slice has all elements of one tensor and may have any float type. `into()`
/// converts a slice to a [`FloatsMut`].
///
/// # Special values
/// | g | result |
/// |---|---|
/// | NaN | NaN; [`report::scope`] counts the tensors with a NaN |
/// | an infinity | the limit with its sign; [`report::scope`] counts the tensors with an infinity |
/// | within the limit | unchanged, bit by bit |
/// | any but NaN, with a limit of 0 | 0 with the sign of g |
///
/// # Accuracy
/// Correctly rounded in every type. The limit is clip_value rounded to the nearest value of the type, so it may be half
/// an ULP above clip_value. If clip_value exceeds the range of the type, the limit is +inf, and nothing is clamped.
///
/// # Errors
/// [`Error::InvalidArgument`] if clip_value is negative or NaN; [`Error::Unavailable`] if the requested instruction set
/// is unavailable. After an error the gradients are unchanged.
///
/// # Panics
/// Never.
///
/// # Source
/// torch's `clip_grad_value_`, except that negative limits are an error here.
///
/// # Example
/// ```
/// use evenkeel::clip_grad_value;
/// let (mut a, mut b) = ([0.25f32, -3.0, f32::NAN], [f64::INFINITY]);
/// clip_grad_value(&mut [(&mut a).into(), (&mut b).into()], 0.5)?;
/// assert!(a[..2] == [0.25, -0.5] && a[2].is_nan() && b == [0.5]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clip_grad_value(grads: &mut [FloatsMut<'_>], clip_value: f64) -> Result<()> {
    check(clip_value)?;
    let found = grads.iter_mut().map(|grad| grad.clip(clip_value)).collect::<Result<Vec<NonFinite>>>()?;
    finish_call(&found);
    Ok(())
}
