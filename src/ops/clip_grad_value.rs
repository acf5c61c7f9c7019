//! Gradient clipping by value.

use super::is_in_zero_to;
use crate::cpu::clip_grad_value::Met;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::report::{self, Counts};

pub(crate) const OP: &str = "clip_grad_value";

/// Checks the limit, which is not NaN either.
pub(crate) fn check(clip_value: f64) -> Result<()> {
    let is_valid = is_in_zero_to(clip_value, f64::INFINITY);
    if is_valid { Ok(()) } else { Err(Error::invalid(OP, "clip_value", clip_value, "0 or more")) }
}

/// Reports what the tensors had in them.
pub(crate) fn settle(met: &[Met]) {
    let (nan, infinite) = (met.iter().filter(|met| met.nan).count(), met.iter().filter(|met| met.infinite).count());
    let counts = Counts { rows: met.len() as u64, nan: nan as u64, infinite: infinite as u64, ..Counts::default() };
    report::record(OP, counts);
}

/// Brings each element of all gradients to within a limit of zero.
///
/// # Formula
/// ```text
/// g_i = min(max(g_i, -clip_value), clip_value)
/// ```
///
/// # Shapes
/// Any number of slices, each all elements of a tensor, of any float types. [`FloatsMut`] is made by `into()`.
///
/// # Special values
/// | g | what becomes of it |
/// |---|---|
/// | NaN | NaN; [`report::scope`] counts the tensors that have one |
/// | an infinity | the limit of its sign; counted |
/// | within the limit | every bit as it was |
/// | any but NaN, with a limit of 0 | 0 of its sign |
///
/// # Accuracy
/// Correctly rounded in every type: the limit is the type's value that is nearest to clip_value, which may be half an
/// ULP above it, and is +inf, no limit, where clip_value is beyond the type.
///
/// # Errors
/// [`Error::InvalidArgument`] for a clip_value that is negative or NaN, [`Error::Backend`]. After either the gradients
/// are what they were.
///
/// # Panics
/// Never.
///
/// # Source
/// torch's `clip_grad_value_`, but for negative limits.
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
    let met = grads.iter_mut().map(|grad| grad.clip(clip_value)).collect::<Result<Vec<Met>>>()?;
    settle(&met);
    Ok(())
}
